"""A source's own members as a forecast, uncalibrated: the yardstick of every other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import xarray as xr

from models.base import ForecasterSpec, Inputs, MissingInputError, Pairs, check_state, quantiles_of_members
from models.statistical.shared import answer, array_of, members_of, wanted


class Raw:
    """``raw_<source>``: the empirical distribution of the members."""

    def __init__(self, source: str) -> None:
        self.source = source

    @property
    def spec(self) -> ForecasterSpec:
        """Needs its source and no history."""
        return ForecasterSpec(id=f"raw_{self.source}", version="1", required=(self.source,))

    def fit(self, pairs: Pairs) -> Self:
        """Nothing to learn."""
        return self

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles of the members, any place.

        Raises:
            MissingInputError: The source, or every variable asked for, is absent.
        """
        data = members_of(inputs, self.source)
        names = wanted(inputs, (str(name) for name in data.data_vars))
        if not names:
            raise MissingInputError(f"{self.source!r} has none of {', '.join(inputs.targets)}.")
        values = {n: quantiles_of_members(array_of(data[n], inputs.place_dims).astype(np.float32)) for n in names}
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """The name of the source."""
        return {"source": np.array(self.source)}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "source")
        return cls(str(state["source"]))
