"""Quantile regression forest on what the joint EMOS leaves over.

The joint EMOS of recent pairs says location and scale; a forest of extremely randomised trees looks for what is left in its standardised
residuals, with the same predictors. A forecast is the weighted distribution of past residuals that share its leaves, put
back on the location and scale. Trees are kept as arrays, so that a fitted forest needs no library and no pickle.

A dry day says only that the residual lay below that of no rain. It gets one drawn from there: the residual of zero itself would be large
where rain was expected least, and would bring rain wherever it was put back on a higher location.

References:
    Dunn and Smyth (1996), Randomized quantile residuals, J. Computational and Graphical Statistics 5.
    Meinshausen (2006), Quantile regression forests, JMLR 7.
    Geurts, Ernst and Wehenkel (2006), Extremely randomized trees.
    Taillardat, Mestre, Zamo and Naveau (2016), Calibrated ensemble forecasts using quantile regression forests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
import xarray as xr

from data_catalog.dimensions import INIT_TIME, LEAD_TIME
from models.base import LEVELS, ForecasterError, ForecasterSpec, Inputs, NotFittedError, Pairs, check_state
from models.statistical.emos import truncated_quantiles
from models.statistical.joint import JointEmos
from models.statistical.predictors import Design, training_of
from models.statistical.shared import Shape, answer, season, wanted

_TREES: Final = 120
_LEAF: Final = 20  # fewest residuals in a leaf
_ROWS: Final = 20_000  # residuals learned from; more are thinned evenly


@dataclass(frozen=True, eq=False)
class Trees:
    """A fitted forest as arrays.

    Attributes:
        feature: (nodes,) split predictor, -1 in a leaf; all trees one after the other.
        threshold: (nodes,) go left at or below.
        left: (nodes,) index of the left child, its own where there is none.
        right: (nodes,) likewise.
        root: (trees,) index of the first node of each.
        leaf: (trees, rows) node in which each residual ended.
        residual: (rows,) standardised, ascending.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    root: np.ndarray
    leaf: np.ndarray
    residual: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """(trees, n) leaf of each of (n, p) float32 rows."""
        node = np.repeat(self.root[:, None], len(x), axis=1)
        rows = np.arange(len(x))[None]
        while True:
            split = self.feature[node]
            inside = split >= 0
            if not inside.any():
                return node
            right = x[rows, np.maximum(split, 0)] > self.threshold[node]
            node = np.where(inside, np.where(right, self.right[node], self.left[node]), node)

    def quantiles(self, x: np.ndarray) -> np.ndarray:
        """(n, Q) quantiles of the residuals that share leaves with each row."""
        leaves = self.apply(x)  # (trees, n)
        size = np.bincount(self.leaf.ravel(), minlength=len(self.feature)).astype(np.float64)
        out = np.empty((len(x), len(LEVELS)))
        for first in range(0, len(x), 64):
            cut = slice(first, first + 64)
            share = np.zeros((len(x[cut]), len(self.residual)))
            for tree in range(len(self.root)):
                mine = leaves[tree, cut]
                share += (self.leaf[tree][None] == mine[:, None]) / size[mine][:, None]
            total = np.cumsum(share, axis=1)
            middle = (total - 0.5 * share) / total[:, -1:]
            for i, row in enumerate(middle):
                out[first + i] = np.interp(LEVELS, row, self.residual)
        return out


class ResidualForest:
    """``forest``."""

    def __init__(self) -> None:
        self.base = JointEmos("emos-recent")
        self.trees_: dict[str, Trees] = {}

    @property
    def spec(self) -> ForecasterSpec:
        """Needs at least one source and forty days."""
        return ForecasterSpec(id="forest", version="2", required=("*",), minimum_history=40, needs_observations=True)

    def fit(self, pairs: Pairs) -> Self:
        """Learn every variable that a source and the observations have.

        Raises:
            MissingInputError: No source has any.
            ForecasterError: No variable has a single pair, or too few.
        """
        self.base.fit(pairs)
        self.trees_ = {}
        for name in self.base.learned_:
            location, scale, design = self.base.parameters(pairs, name)
            shape = self.base.shape(name)
            y = training_of(pairs, name, shape.power, shape.lower).y
            x = _features(design, location, scale, _valid_time(pairs))
            residual = _residual(y, location, scale, shape).ravel()
            known = np.flatnonzero(np.isfinite(residual) & np.isfinite(x).all(axis=1))
            if len(known) < 4 * _LEAF:
                raise ForecasterError(f"forest: {len(known)} pairs of {name}, expected at least {4 * _LEAF}; give more history.")
            known = known[:: max(1, len(known) // _ROWS)]
            self.trees_[name] = _grow(x[known], residual[known])
        return self

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles of location plus scale times residual.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: No source of the training is there.
        """
        if not self.trees_:
            raise NotFittedError("forest has not been fitted: call fit first.")
        values = {}
        for name in wanted(inputs, self.trees_):
            location, scale, design = self.base.parameters(inputs, name)
            x = _features(design, location, scale, _valid_time(inputs))
            there = np.flatnonzero(np.isfinite(x).all(axis=1))
            q = np.full((len(x), len(LEVELS)), np.nan)
            q[there] = location.ravel()[there, None] + scale.ravel()[there, None] * self.trees_[name].quantiles(x[there])
            values[name] = self.base.shape(name).backward(torch.as_tensor(q)).numpy()
        return answer(inputs, values)

    def state(self) -> dict[str, np.ndarray]:
        """The joint EMOS underneath and the trees.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.trees_:
            raise NotFittedError("forest has not been fitted: call fit first.")
        found = {f"base/{key}": value for key, value in self.base.state().items()}
        for name, trees in self.trees_.items():
            found |= {f"trees/{name}/{part}": getattr(trees, part) for part in Trees.__dataclass_fields__}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "base/variant")
        made = cls()
        made.base = JointEmos.from_state({k.removeprefix("base/"): v for k, v in state.items() if k.startswith("base/")})
        for name in dict.fromkeys(k.split("/")[1] for k in state if k.startswith("trees/")):
            made.trees_[name] = Trees(**{part: state[f"trees/{name}/{part}"] for part in Trees.__dataclass_fields__})
        return made


def _residual(y: np.ndarray, location: np.ndarray, scale: np.ndarray, shape: Shape) -> np.ndarray:
    """Standardised residuals of any shape; of what lies at a bound with a mass, drawn from beyond the bound, the same for the same data."""
    found: np.ndarray = (y - location) / scale
    if shape.form != "censored":
        return found
    level = torch.as_tensor(np.random.default_rng(0).uniform(size=found.shape)[..., None])
    for bound, side in zip(shape.bounds(), (-1.0, 1.0), strict=True):
        if bound is not None:
            at = torch.as_tensor(found)[..., None]
            nothing = torch.full_like(at, side * torch.inf)
            drawn = truncated_quantiles(*((nothing, at) if side < 0 else (at, nothing)), level, shape.family)[..., 0].numpy()
            found = np.where(side * (y - bound) >= 0.0, drawn, found)
    return found


def _valid_time(inputs: Inputs) -> np.ndarray:
    found: np.ndarray = inputs.frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    return found


def _features(design: Design, location: np.ndarray, scale_of: np.ndarray, valid_time: np.ndarray) -> np.ndarray:
    """(cases, p) float32: the predictors of the joint EMOS but for hinges and interactions, each once, with its answer and the lead."""
    plain = [i for i, n in enumerate(design.names) if not n.startswith(("constant", "hinge", "season")) and not n.endswith("_pool")]
    scale = [i for i, n in enumerate(design.scale_names) if n in ("error_size", "between", "station_size")]
    waves = np.broadcast_to(season(valid_time)[:, :, None], (*location.shape, 2))
    lead = np.broadcast_to(np.arange(location.shape[1], dtype=np.float64)[None, :, None], location.shape)
    own = np.stack([location, np.log(scale_of), lead], axis=-1)
    found = np.concatenate([design.location[..., plain], design.log_scale[..., scale], waves, own], axis=-1)
    return found.reshape(-1, found.shape[-1]).astype(np.float32)


def _grow(x: np.ndarray, residual: np.ndarray) -> Trees:
    """Grow the forest; the same data gives the same trees."""
    from sklearn.ensemble import ExtraTreesRegressor  # lazily: two seconds

    order = np.argsort(residual, kind="stable")
    x, residual = x[order], residual[order]
    held = np.clip(residual, *np.quantile(residual, [0.001, 0.999]))  # one broken report must not choose the splits
    forest = ExtraTreesRegressor(_TREES, min_samples_leaf=_LEAF, max_features="sqrt", random_state=0).fit(x, held)
    leaf = forest.apply(x).T  # (trees, rows)
    parts: dict[str, list[np.ndarray]] = {"feature": [], "threshold": [], "left": [], "right": []}
    roots, first = [], 0
    for estimator in forest.estimators_:
        tree = estimator.tree_
        own = np.arange(tree.node_count)
        split = tree.children_left >= 0
        parts["feature"].append(np.where(split, tree.feature, -1))
        parts["threshold"].append(tree.threshold)
        parts["left"].append(np.where(split, tree.children_left, own) + first)
        parts["right"].append(np.where(split, tree.children_right, own) + first)
        roots.append(first)
        first += tree.node_count
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Trees(**joined, root=np.array(roots), leaf=leaf + np.array(roots)[:, None], residual=residual)
