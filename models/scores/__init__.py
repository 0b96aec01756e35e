"""Statistics, scores and their significance. Lower is better wherever a score is meant to be compared."""

from models.scores.crps import crps_ensemble, crps_quantiles, quantile_score, twcrps_ensemble

__all__ = ["crps_ensemble", "crps_quantiles", "quantile_score", "twcrps_ensemble"]
