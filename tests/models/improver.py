"""Reading of IMPROVER's acceptance data: its inputs and its known good outputs (KGO).

What IMPROVER does is taken from its documentation and source (github.com/metoppv/improver, BSD-3); the data are those of
metoppv/improver_test_data (CC BY 4.0). Its tests compare to within ``atol + rtol |KGO|`` with 1e-4 for both by default, 1e-3 for the
EMOS coefficients and for ``atol`` where they are applied. The tests here ask for as much or more.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import xarray as xr

MISSING = 1e36  # masked values are written as the netCDF default, 9.97e36


@lru_cache(maxsize=64)
def read(path: Path, name: str | None = None) -> xr.DataArray:
    """The largest field of a file (or the one named), float64; NaN where it is masked. Kept: not to be written to."""
    with xr.open_dataset(path, decode_times=False) as data:
        found = data[name or max(data.data_vars, key=lambda v: (data[v].ndim, data[v].size))].astype(float).load()
    found = found.where(found < MISSING)
    found.values.setflags(write=False)
    return found


def coefficients(path: Path) -> tuple[np.ndarray, ...]:
    """Alpha, beta, gamma and delta of IMPROVER's EMOS: location alpha + beta mean, scale sqrt(gamma^2 + delta^2 variance)."""
    with xr.open_dataset(path, decode_times=False) as data:
        return tuple(data[f"emos_coefficient_{name}"].values.astype(float) for name in ("alpha", "beta", "gamma", "delta"))


def parameters(path: Path, members: np.ndarray, by_member: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Location and scale (...) that IMPROVER's coefficients give to members (M, ...).

    ``by_member``: the predictors are the members, not their mean; beta is then squared, to be positive.
    """
    alpha, beta, gamma, delta = coefficients(path)
    if by_member:
        location = alpha + (members * (beta**2).reshape(len(beta), *[1] * (members.ndim - beta.ndim), *beta.shape[1:])).sum(axis=0)
    else:
        location = alpha + beta * members.mean(axis=0)
    return torch.tensor(location), torch.tensor(np.sqrt(gamma**2 + delta**2 * members.var(axis=0, ddof=1)))
