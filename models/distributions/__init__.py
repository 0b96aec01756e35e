"""Density, CDF, quantile and CRPS of predictive distributions, on tensors, finite to the far tails."""
