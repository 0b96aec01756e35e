"""Density, CDF, quantile and CRPS of predictive distributions, on tensors, finite to the far tails."""

from models.distributions.base import Bound, Continuous, Distribution
from models.distributions.bounded import Censored, Truncated
from models.distributions.gamma import Gamma, censored_shifted_gamma
from models.distributions.grid import QuantileGrid
from models.distributions.pareto import GeneralizedPareto, fit_generalized_pareto
from models.distributions.symmetric import Logistic, Normal, StudentT, Symmetric

__all__ = [
    "Bound",
    "Censored",
    "Continuous",
    "Distribution",
    "Gamma",
    "GeneralizedPareto",
    "Logistic",
    "Normal",
    "QuantileGrid",
    "StudentT",
    "Symmetric",
    "Truncated",
    "censored_shifted_gamma",
    "fit_generalized_pareto",
]
