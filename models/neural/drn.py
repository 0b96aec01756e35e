"""Distributional regression network: location and scale of a parametric distribution from a network, by closed-form CRPS.

The family is that of the joint EMOS, which the network corrects: logistic or Gaussian without bounds, truncated where the physics has a
bound (wind, humidity), censored where a bound holds a point mass (rain on its power scale, cloud, radiation)::

    location = mu + sigma a        log scale = log sigma + b        with a, b bounded outputs of the network

Rain may have the censored shifted gamma distribution of :mod:`models.neural.shifted_gamma` instead.

References:
    Rasp and Lerch (2018), Neural networks for post-processing ensemble weather forecasts, MWR 146.
    Schulz and Lerch (2022), Machine learning methods for postprocessing ensemble forecasts of wind gusts, MWR 150.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from models.base import ForecasterError
from models.distributions import Censored, Distribution, Logistic, Normal, Truncated
from models.neural.shifted_gamma import ShiftedGamma
from models.neural.station import Head, StationForecaster
from models.neural.trainer import Batch
from models.statistical.emos import location_scale_quantiles
from models.statistical.shared import Shape

HEADS: Final = ("emos", "csgd")
_SHIFT: Final = 3.0  # largest change of the location, in scales of the EMOS: a correction of a record stays bounded
_STRETCH: Final = 1.0  # largest change of the log scale


@dataclass(frozen=True)
class LocationScale:
    """Two outputs: by how many scales to move the location, and how much to add to the log scale."""

    shape: Shape

    @property
    def outputs(self) -> int:
        """Two."""
        return 2

    def columns(self, y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Observation and bounds in scales about the location of the EMOS, and that scale in units of its mean."""
        found = {"z": (y - location) / scale, "unit": scale / scale.mean()}
        for name, bound in zip(("low", "high"), self.shape.bounds(), strict=True):
            if bound is not None:
                found[name] = (bound - location) / scale
        return {name: column.astype(np.float32) for name, column in found.items()}

    def crps(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Closed form on the power scale, in mean scales of the EMOS."""
        shift, stretch = _bounded(outputs)
        family = Logistic if self.shape.family == "logistic" else Normal
        made: Distribution = family(shift, torch.exp(stretch))
        bounds = {name: batch[key].T for name, key in (("lower", "low"), ("upper", "high")) if key in batch}
        if bounds:
            made = (Censored if self.shape.form == "censored" else Truncated)(made, **bounds)  # type: ignore[arg-type]
        return batch["unit"].T * made.crps(batch["z"].T)

    def quantiles(self, outputs: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """As of the EMOS, with the corrected location and scale."""
        shift, stretch = _bounded(outputs)
        return location_scale_quantiles(location + scale * shift, scale * torch.exp(stretch), np.array([0.0, 1.0]), self.shape)


def _bounded(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """(M, N) shift and stretch, each the output itself where it is small."""
    shift, stretch = outputs.unbind(dim=-1)
    return _SHIFT * torch.tanh(shift / _SHIFT), _STRETCH * torch.tanh(stretch / _STRETCH)


class Drn(StationForecaster):
    """``drn``.

    Rain may have a censored shifted gamma distribution instead (``head="csgd"``). On folds of the training periods of two archives
    (``bench_networks --heads``, mean of three seeds) its CRPS less that of the EMOS is +0.0035 ± 0.0063 of 4.342 mm (Innsbruck, sums of
    three days) and +0.0025 ± 0.0027 of 0.793 mm (Frankfurt, 24 h); with the family of the EMOS +0.0006 ± 0.0026 and -0.0006 ± 0.0020. It is
    no better there and takes twice the time, so it is not the default.
    """

    id: ClassVar[str] = "drn"
    version: ClassVar[str] = "1"

    def __init__(self, device: str = "auto", head: str = "emos", **parameters: Any) -> None:
        """An unfitted forecaster.

        Args:
            device: ``auto``, ``cpu``, ``cuda``.
            head: Of rain: ``emos`` for the family of the EMOS, ``csgd`` for a censored shifted gamma distribution.
            parameters: See :class:`StationForecaster`.

        Raises:
            ForecasterError: There is no such head.
            TypeError: There is no such parameter.
        """
        if head not in HEADS:
            raise ForecasterError(f"drn has no head called {head!r}; there are {', '.join(HEADS)}.")
        self.rain = head
        super().__init__(device, **parameters)

    def choices(self) -> dict[str, str]:
        """The head of rain."""
        return {"head": self.rain}

    def head(self, shape: Shape) -> Head:
        """Location and scale of the EMOS's own family; for rain what was chosen."""
        return ShiftedGamma(shape) if self.rain == "csgd" and is_rain(shape) else LocationScale(shape)


def is_rain(shape: Shape) -> bool:
    """Whether a variable is distributed as rain is under the EMOS: logistic on a power scale, with a mass at zero and no upper bound."""
    return (shape.family, shape.form, shape.lower, shape.upper) == ("logistic", "censored", 0.0, None)
