"""Density, CDF, quantile and CRPS of predictive distributions, on tensors, finite to the far tails."""

from models.distributions.base import Bound, Continuous, Distribution
from models.distributions.bounded import Censored, Truncated
from models.distributions.symmetric import Logistic, Normal, StudentT, Symmetric

__all__ = ["Bound", "Censored", "Continuous", "Distribution", "Logistic", "Normal", "StudentT", "Symmetric", "Truncated"]
