"""What the station networks share: a correction of the joint EMOS, learned for all stations, leads and sources together.

The network says by how much to change the distribution of the joint EMOS, and before training it says: not at all. How long to train is
decided on blocks of time that each member of the ensemble has not seen, with the untrained network among the candidates. With
a short history nothing is gained there, and the forecast is that of the EMOS; with a long one it is what could be shown to be better.

References:
    Rasp and Lerch (2018), Neural networks for post-processing ensemble weather forecasts, MWR 146.
    Schulz and Lerch (2022), Machine learning methods for postprocessing ensemble forecasts of wind gusts, MWR 150.
    Bremnes (2020), Ensemble postprocessing using quantile function regression based on neural networks, MWR 148.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, Protocol, Self, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_catalog.dimensions import INIT_TIME, LEAD_TIME
from models.base import LEVELS, ForecasterSpec, Inputs, NotFittedError, Pairs, check_state
from models.neural.features import Scaling, auxiliary_of, cases_of
from models.neural.network import Dropout, Sizes, StationNetwork, hidden_dropout, without_some
from models.neural.trainer import Batch, Epoch, Hooks, Table, Training, load_arrays, members_and_folds, state_arrays, train
from models.statistical.joint import JointEmos
from models.statistical.predictors import training_of
from models.statistical.shared import Shape, answer, device_of, wanted

Part = TypeVar("Part", Sizes, Training, Dropout)
_ROWS: Final = 4096  # rows whose quantiles are made at once


class Head(Protocol):
    """How outputs of a network change the distribution of the EMOS; outputs of zero leave it as it is."""

    @property
    def outputs(self) -> int:
        """o, of the network."""
        ...

    def columns(self, y: np.ndarray, location: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
        """(N, M) float32 columns that :meth:`crps` needs, from the observation (N, 1) and each member's EMOS (N, M), on the power scale."""
        ...

    def crps(self, outputs: Tensor, batch: Batch) -> Tensor:
        """(M, N) score of outputs (M, N, o), float32, in one unit for all rows."""
        ...

    def quantiles(self, outputs: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """(M, N, Q) in the variable's units, from outputs (M, N, o) and the EMOS (N,)."""
        ...


@dataclass(frozen=True, eq=False)
class Learned:
    """Of one variable: scaling, what the network is, and its curve."""

    scaling: Scaling
    network: StationNetwork
    curve: tuple[Epoch, ...] = ()


@dataclass(frozen=True, eq=False)
class _Task:
    """Scores the members on what each may learn from, and on what it has not seen."""

    network: StationNetwork
    head: Head
    recent: Tensor
    stations: int
    sizes: Sizes
    dropout: Dropout

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(N,) mean score of the members that may learn from the row."""
        seen = without_some(batch, self.recent, self.stations, self.dropout, generator)
        keep = hidden_dropout(len(batch["lead"]), self.sizes.hidden, self.dropout.drop_hidden, batch["common"], generator)
        outputs = self.network(seen, keep).float()  # (M, N, o)
        return (self.head.crps(outputs, batch) * batch["learns"].T).sum(dim=0) / self.sizes.members

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(N,) score by the member that has not seen the row."""
        score = self.head.crps(self.network(batch), batch)  # (M, N)
        return score.gather(0, batch["fold"][None])[0], torch.ones_like(score[0])


class StationForecaster:
    """Fit, forecast and state of ``drn`` and ``bqn``; a subclass gives the id and the head.

    Whoever keeps a record of experiments sets :attr:`hooks` before ``fit``, and reads :meth:`options` and :attr:`history` after it.
    """

    id: ClassVar[str]
    version: ClassVar[str]

    def __init__(self, device: str = "auto", **parameters: Any) -> None:
        """An unfitted forecaster.

        Args:
            device: ``auto``, ``cpu``, ``cuda``.
            parameters: Fields of :class:`Sizes`, :class:`Training` and :class:`Dropout` by name, in place of their defaults.

        Raises:
            TypeError: None of them has such a field.
        """
        self.sizes = _taken(Sizes, parameters)
        self.training = _taken(Training, parameters)
        self.dropout = _taken(Dropout, parameters)
        if parameters:
            raise TypeError(f"no parameter is called {', '.join(parameters)}; there are {', '.join(self.options())}")
        self.hooks, self.device = Hooks(), device
        self.base = JointEmos("emos")
        self.learned_: dict[str, Learned] = {}

    def head(self, shape: Shape) -> Head:
        """The head for a variable."""
        raise NotImplementedError

    @property
    def spec(self) -> ForecasterSpec:
        """Needs at least one source and ten days, like the EMOS under it."""
        return ForecasterSpec(id=self.id, version=self.version, required=("*",), minimum_history=10, needs_observations=True)

    def options(self) -> dict[str, float]:
        """The numbers that describe the run, for whoever keeps a record of it."""
        return {name: value for part in (self.sizes, self.training, self.dropout) for name, value in asdict(part).items()}

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch: ``epoch``, and ``loss`` and ``held_out`` of each variable, in scales of the EMOS; empty when restored."""
        longest = max((len(learned.curve) for learned in self.learned_.values()), default=0)
        rows: list[dict[str, float]] = [{"epoch": float(number)} for number in range(longest)]
        for name, learned in self.learned_.items():
            for epoch in learned.curve:
                rows[epoch.number] |= {f"{name}_loss": epoch.loss, f"{name}_held_out": epoch.held_out}
        return rows

    def fit(self, pairs: Pairs) -> Self:
        """Learn every variable that a source and the observations have.

        Raises:
            MissingInputError: No source has any.
            ForecasterError: No variable has a single pair.
            TrainingError: See :func:`models.neural.trainer.train`.
        """
        self.base = JointEmos("emos", self.device).fit(pairs)
        self.learned_ = {name: self._learn(pairs, name) for name in self.base.learned_}
        return self

    def _learn(self, pairs: Pairs, name: str) -> Learned:
        shape, device = self.base.shape(name), device_of(self.device)
        training = training_of(pairs, name, shape.power, shape.lower)
        fold, learns = members_and_folds(_days(pairs, training.y.shape), self.sizes.members, self.training.seed)
        without = [self.base.without(pairs, name, held.reshape(training.y.shape)) for held in ~learns.T]  # what each member corrects
        y, mu, sigma = training.y.reshape(-1, 1), *(np.stack([w[i].ravel() for w in without], axis=1) for i in (0, 1))  # (N, M)
        frame, auxiliary = training.frame, auxiliary_of(pairs, name)
        cases, names = cases_of(pairs, name, training.design, shape, frame.leads, frame.stations, frame.sources, auxiliary)
        rows = np.flatnonzero(np.isfinite(y[:, 0]) & np.isfinite(mu).all(axis=1))
        scaling = Scaling.learn(names, auxiliary, cases, rows)
        cases = scaling.apply(cases)
        head = self.head(shape)
        columns = {part: column[rows] for part, column in cases._asdict().items()} | head.columns(y[rows], mu[rows], sigma[rows])
        network = self._network(scaling, len(frame.leads), len(frame.stations), head)
        recent = torch.as_tensor(scaling.recent, dtype=torch.float32, device=device)
        task = _Task(network, head, recent, len(frame.stations), self.sizes, self.dropout)
        curve = train(task, Table({**columns, "fold": fold[rows], "learns": learns[rows]}), self.training, self.hooks.under(name), device)
        return Learned(scaling, network.cpu().eval(), tuple(curve))

    def _network(self, scaling: Scaling, leads: int, stations: int, head: Head) -> StationNetwork:
        common, sources = scaling.common.shape[1], (scaling.sources.shape[1], scaling.sources.shape[2])
        return StationNetwork(common, sources, leads, stations, head.outputs, self.sizes, self.training.seed)

    def predict(self, inputs: Inputs) -> xr.Dataset:
        """Quantiles of the EMOS as the members correct them, averaged level by level.

        Raises:
            NotFittedError: Before :meth:`fit`.
            MissingInputError: No source of the training is there.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.id} has not been fitted: call fit first.")
        return answer(inputs, {name: self._quantiles(inputs, name) for name in wanted(inputs, self.learned_)})

    def _quantiles(self, inputs: Inputs, name: str) -> np.ndarray:
        """(T L P, Q) in the variable's units."""
        learned, shape, frame = self.learned_[name], self.base.shape(name), self.base.learned_[name].frame
        location, scale, design = self.base.parameters(inputs, name)
        auxiliary = tuple(str(a) for a in learned.scaling.auxiliary)
        cases, _ = cases_of(inputs, name, design, shape, frame.leads, frame.stations, frame.sources, auxiliary)
        cases = learned.scaling.apply(cases)
        mu, sigma = torch.as_tensor(location.ravel()), torch.as_tensor(scale.ravel())
        head, found = self.head(shape), np.full((len(mu), len(LEVELS)), np.nan)
        there = np.flatnonzero(np.isfinite(location.ravel()))
        with torch.no_grad():
            for first in range(0, len(there), _ROWS):
                rows = there[first : first + _ROWS]
                outputs = learned.network({part: torch.from_numpy(column[rows]) for part, column in cases._asdict().items()})
                found[rows] = head.quantiles(outputs.double(), mu[rows], sigma[rows]).mean(dim=0).numpy()
        return found

    def state(self) -> dict[str, np.ndarray]:
        """The EMOS underneath, scalings and weights.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.id} has not been fitted: call fit first.")
        found = {f"base/{key}": value for key, value in self.base.state().items()}
        found |= {f"sizes/{f.name}": np.array(getattr(self.sizes, f.name)) for f in fields(Sizes)}
        for name, learned in self.learned_.items():
            found |= learned.scaling.arrays(f"{name}/scaling/") | state_arrays(learned.network, f"{name}/weights/")
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "base/variant", *(f"sizes/{f.name}" for f in fields(Sizes)))
        sizes: dict[str, Any] = {f.name: int(state[f"sizes/{f.name}"]) for f in fields(Sizes)}
        made = cls(**sizes)
        made.base = JointEmos.from_state({k.removeprefix("base/"): v for k, v in state.items() if k.startswith("base/")})
        for name, base in made.base.learned_.items():
            scaling = Scaling.from_arrays(state, f"{name}/scaling/")
            network = made._network(scaling, len(base.frame.leads), len(base.frame.stations), made.head(made.base.shape(name)))
            load_arrays(network, state, f"{name}/weights/")
            made.learned_[name] = Learned(scaling, network.eval())
        return made


def _taken(kind: type[Part], parameters: dict[str, Any]) -> Part:
    """A dataclass from those of the parameters that are its own, which are taken out."""
    return kind(**{name: parameters.pop(name) for name in kind.__dataclass_fields__ if name in parameters})


def _days(inputs: Inputs, size: tuple[int, ...]) -> np.ndarray:
    """(T L P,) valid day of every case, whole numbers."""
    valid_time = inputs.frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    return np.broadcast_to(valid_time.astype("datetime64[D]").astype(np.int64)[:, :, None], size).ravel()
