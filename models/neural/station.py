"""What the station networks share: a correction of the joint EMOS, learned for all stations, leads and sources together.

The network says by how much to change the distribution of the joint EMOS, and before training it says: not at all. How long to train is
decided on blocks of time that each member of the ensemble has not seen, with the untrained network among the candidates. With
a short history nothing is gained there, and the forecast is that of the EMOS; with a long one it is what could be shown to be better.
What it says is believed in proportion to the days it has learned from, half of it after a year.

References:
    Rasp and Lerch (2018), Neural networks for post-processing ensemble weather forecasts, MWR 146.
    Schulz and Lerch (2022), Machine learning methods for postprocessing ensemble forecasts of wind gusts, MWR 150.
    Bremnes (2020), Ensemble postprocessing using quantile function regression based on neural networks, MWR 148.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_catalog.dimensions import INIT_TIME, LEAD_TIME, STATION
from models.base import LEVELS, ForecasterSpec, Inputs, NotFittedError, Pairs, check_state
from models.neural.features import Cases, Scaling, auxiliary_of, cases_of
from models.neural.network import Dropout, Sizes, StationNetwork, hidden_dropout, without_some
from models.neural.trainer import Batch, Epoch, Hooks, Table, Training, load_arrays, members_and_folds, state_arrays, train
from models.statistical.joint import JointEmos
from models.statistical.predictors import Design, training_of
from models.statistical.shared import Shape, answer, device_of, wanted

Part = TypeVar("Part", Sizes, Training, Dropout)
_EMOS_DAYS: Final = 365.0  # days of pairs that the EMOS counts for against the network: a year's held-out blocks can mislead
_ROWS: Final = 4096  # rows whose quantiles are made at once


class Head(Protocol):
    """How outputs of a network change the distribution of the EMOS.

    Outputs of zero leave it as it is, or, where the head is of another family, the distribution of that family nearest to it.
    """

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
    """Of one variable: scaling, network, the share of what it says that is believed, and its curve."""

    scaling: Scaling
    network: StationNetwork
    trust: float
    curve: tuple[Epoch, ...] = ()


class Gathered(NamedTuple):
    """What is learned from, N rows.

    Attributes:
        cases: Predictors.
        names: Of the common ones.
        y: (N,) observation on the power scale.
        location: (N, M) of what each member corrects.
        scale: (N, M) likewise.
    """

    cases: Cases
    names: tuple[str, ...]
    y: np.ndarray
    location: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, eq=False)
class CorrectionTask:
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


class StationForecaster(ABC):
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

    @abstractmethod
    def head(self, shape: Shape) -> Head:
        """The head for a variable."""

    @property
    def spec(self) -> ForecasterSpec:
        """Needs at least one source and ten days, like the EMOS under it."""
        return ForecasterSpec(id=self.id, version=self.version, required=("*",), minimum_history=10, needs_observations=True)

    def choices(self) -> dict[str, str]:
        """Parameters of a subclass that are no numbers, by the name they are built with; ``state`` keeps them."""
        return {}

    def options(self) -> dict[str, float | str]:
        """What describes the run, for whoever keeps a record of it."""
        numbers = {name: value for part in (self.sizes, self.training, self.dropout) for name, value in asdict(part).items()}
        return numbers | self.choices()

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

    def past(self, pairs: Pairs) -> xr.Dataset:
        """What would have been said of the pairs of the training, out of fold: what the weights of a blend may be learned from.

        Each block of time is forecast by the member that has not seen it, on an EMOS that has not either. One member says a little less
        than the mean of all, so that the blend trusts the network a little less than it may.

        Args:
            pairs: Those of :meth:`fit`.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.id} has not been fitted: call fit first.")
        fold, learns = members_and_folds(_days(pairs), self.sizes.members, self.training.seed)
        values = {}
        for name in wanted(pairs, self.learned_):
            learned, head, gathered = self.learned_[name], self.head(self.base.shape(name)), self._gather(pairs, name, learns)
            columns = learned.scaling.apply(gathered.cases)._asdict()
            found = np.full((len(fold), len(LEVELS)), np.nan)
            known = np.isfinite(gathered.location[: len(fold)]).all(axis=1)
            with torch.no_grad():
                for member in range(self.sizes.members):
                    own = np.flatnonzero((fold == member) & known)
                    for rows in np.array_split(own, -(-len(own) // _ROWS)) if len(own) else ():
                        said = learned.network({part: torch.from_numpy(column[rows]) for part, column in columns.items()})[member, None]
                        mu, sigma = (torch.as_tensor(a[rows, member]) for a in (gathered.location, gathered.scale))
                        found[rows] = head.quantiles(learned.trust * said.double(), mu, sigma)[0].numpy()
            values[name] = found
        return answer(pairs, values)

    def _learn(self, pairs: Pairs, name: str) -> Learned:
        shape, device, frame = self.base.shape(name), device_of(self.device), self.base.learned_[name].frame
        fold, learns = members_and_folds(_days(pairs), self.sizes.members, self.training.seed)
        gathered = self._gather(pairs, name, learns)
        repeats = len(gathered.y) // len(fold)
        rows = np.flatnonzero(np.isfinite(gathered.y) & np.isfinite(gathered.location).all(axis=1))
        scaling = Scaling.learn(gathered.names, auxiliary_of(pairs, name), gathered.cases, rows)
        cases, head = scaling.apply(gathered.cases), self.head(shape)
        columns = {part: column[rows] for part, column in cases._asdict().items()}
        columns |= head.columns(gathered.y[rows, None], gathered.location[rows], gathered.scale[rows])
        columns |= {"fold": np.tile(fold, repeats)[rows], "learns": np.tile(learns, (repeats, 1))[rows]}
        network = self._network(scaling, len(frame.leads), len(frame.stations), head)
        recent = torch.as_tensor(scaling.recent, dtype=torch.float32, device=device)
        task = CorrectionTask(network, head, recent, len(frame.stations), self.sizes, self.dropout)
        curve = train(task, Table(columns), self.training, self.hooks.under(name), device)
        days = len(np.unique(_days(pairs)[rows % len(fold)]))
        return Learned(scaling, network.cpu().eval(), days / (days + _EMOS_DAYS), tuple(curve))

    def _gather(self, pairs: Pairs, name: str, learns: np.ndarray) -> Gathered:
        """Predictors, observations, and the EMOS that each member corrects, learned without what the member is not shown.

        Args:
            pairs: What :meth:`fit` sees.
            name: Variable.
            learns: (T L S, M) bool.
        """
        shape = self.base.shape(name)
        training = training_of(pairs, name, shape.power, shape.lower)
        without = [self.base.without(pairs, name, held.reshape(training.y.shape)) for held in ~learns.T]
        location, scale = (np.stack([w[i].ravel() for w in without], axis=1) for i in (0, 1))
        cases, names = self._cases(pairs, name, training.design, auxiliary_of(pairs, name))
        return Gathered(cases, names, training.y.ravel(), location, scale)

    def _cases(self, inputs: Inputs, name: str, design: Design, auxiliary: tuple[str, ...]) -> tuple[Cases, tuple[str, ...]]:
        """Predictors of every case, and the names of the common ones."""
        frame = self.base.learned_[name].frame
        return cases_of(inputs, name, design, self.base.shape(name), frame.leads, frame.stations, frame.sources, auxiliary)

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

    def _anchored(self, inputs: Inputs, name: str) -> tuple[Cases, np.ndarray, np.ndarray]:
        """Predictors, and location and scale (T L P,) of what is corrected; NaN where there is no forecast."""
        location, scale, design = self.base.parameters(inputs, name)
        cases, _ = self._cases(inputs, name, design, tuple(str(a) for a in self.learned_[name].scaling.auxiliary))
        return cases, location.ravel(), scale.ravel()

    def _quantiles(self, inputs: Inputs, name: str) -> np.ndarray:
        """(T L P, Q) in the variable's units."""
        learned, head = self.learned_[name], self.head(self.base.shape(name))
        cases, location, scale = self._anchored(inputs, name)
        columns = learned.scaling.apply(cases)._asdict()
        mu, sigma, found = torch.as_tensor(location), torch.as_tensor(scale), np.full((len(location), len(LEVELS)), np.nan)
        there = np.flatnonzero(np.isfinite(location))
        with torch.no_grad():
            for first in range(0, len(there), _ROWS):
                rows = there[first : first + _ROWS]
                outputs = learned.network({part: torch.from_numpy(column[rows]) for part, column in columns.items()})
                found[rows] = head.quantiles(learned.trust * outputs.double(), mu[rows], sigma[rows]).mean(dim=0).numpy()
        return found

    def state(self) -> dict[str, np.ndarray]:
        """The EMOS underneath, scalings and weights.

        Raises:
            NotFittedError: Before :meth:`fit`.
        """
        if not self.learned_:
            raise NotFittedError(f"{self.id} has not been fitted: call fit first.")
        found = {f"base/{key}": value for key, value in self.base.state().items()}
        found |= {f"sizes/{f.name}": np.array(getattr(self.sizes, f.name)) for f in fields(Sizes)} | {"seed": np.array(self.training.seed)}
        found |= {f"choices/{name}": np.array(value) for name, value in self.choices().items()}
        for name, learned in self.learned_.items():
            found |= learned.scaling.arrays(f"{name}/scaling/") | state_arrays(learned.network, f"{name}/weights/")
            found[f"{name}/trust"] = np.array(learned.trust)
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """The forecaster that :meth:`state` describes."""
        check_state(state, "base/variant", "seed", *(f"sizes/{f.name}" for f in fields(Sizes)))
        sizes: dict[str, Any] = {f.name: int(state[f"sizes/{f.name}"]) for f in fields(Sizes)}
        choices = {key.removeprefix("choices/"): str(value) for key, value in state.items() if key.startswith("choices/")}
        made = cls(seed=int(state["seed"]), **sizes, **choices)
        made.base = JointEmos.from_state({k.removeprefix("base/"): v for k, v in state.items() if k.startswith("base/")})
        for name, base in made.base.learned_.items():
            scaling = Scaling.from_arrays(state, f"{name}/scaling/")
            network = made._network(scaling, len(base.frame.leads), len(base.frame.stations), made.head(made.base.shape(name)))
            load_arrays(network, state, f"{name}/weights/")
            made.learned_[name] = Learned(scaling, network.eval(), float(state[f"{name}/trust"]))
        return made


def _taken(kind: type[Part], parameters: dict[str, Any]) -> Part:
    """A dataclass from those of the parameters that are its own, which are taken out."""
    return kind(**{name: parameters.pop(name) for name in kind.__dataclass_fields__ if name in parameters})


def _days(pairs: Pairs) -> np.ndarray:
    """(T L S,) valid day of every case, whole numbers."""
    valid_time = pairs.frame["valid_time"].transpose(INIT_TIME, LEAD_TIME).values
    return np.repeat(valid_time.astype("datetime64[D]").astype(np.int64).ravel(), pairs.frame.sizes[STATION])
