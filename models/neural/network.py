"""The network that all station forecasters share: an ensemble of small perceptrons, side by side in one set of tensors.

Shapes: M members, N rows, p common predictors, K sources with s numbers each, e numbers an embedding, h hidden units, o outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.neural.trainer import Batch


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a network.

    Attributes:
        members: M, networks with weights of their own.
        hidden: h.
        embedding: e, of station and lead each.
        reading: Hidden units for what a source says.
    """

    members: int = 5
    hidden: int = 32
    embedding: int = 4
    reading: int = 12


@dataclass(frozen=True, slots=True)
class Dropout:
    """How often a row is trained on without something, so that a missing input is nothing new.

    Attributes:
        drop_source: Of each source.
        drop_recent: Of everything that needs verified observations, together: they are late together.
        drop_station: Of the station's identity, for places that were never seen.
        drop_hidden: Of hidden units.
    """

    drop_source: float = 0.1
    drop_recent: float = 0.1
    drop_station: float = 0.1
    drop_hidden: float = 0.4


class Layer(nn.Module):
    """M linear maps: (N, i) or (M, N, i) to (M, N, o)."""

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else math.sqrt(3.0 / inputs)
        self.weight = nn.Parameter((2.0 * torch.rand(members, inputs, outputs, generator=generator) - 1.0) * bound)
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Every member's map of its rows."""
        return torch.matmul(x, self.weight) + self.bias


class StationNetwork(nn.Module):
    """Predictors to outputs that are zero before training.

    Sources are read by shared weights and an embedding of the source, and averaged over those that are there: there may be one or
    all of them. A row of a station or lead sees its embedding; a place that was never seen has the zero embedding.
    """

    def __init__(self, common: int, sources: tuple[int, int], leads: int, stations: int, outputs: int, sizes: Sizes, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        M, (K, s) = sizes.members, sources
        self.lead = nn.Parameter(0.3 * torch.randn(M, leads, sizes.embedding, generator=rng))
        self.station = nn.Parameter(0.3 * torch.randn(M, stations, sizes.embedding, generator=rng))
        self.read = Layer(M, s, sizes.reading, rng)
        self.which = nn.Parameter(0.3 * torch.randn(M, 1, K, sizes.reading, generator=rng))
        self.first = Layer(M, common + 2 * sizes.embedding + sizes.reading, sizes.hidden, rng)
        self.second = Layer(M, sizes.hidden, sizes.hidden, rng)
        self.last = Layer(M, sizes.hidden, outputs, rng, zero=True)

    def forward(self, batch: Batch, keep: Tensor | None = None) -> Tensor:
        """(M, N, o) outputs of every member for every row.

        Args:
            batch: ``common`` (N, p), ``sources`` (N, K, s), ``here`` (N, K), ``lead`` (N,), ``station`` (N,).
            keep: (2, N, h) factors on the hidden units, for dropout.
        """
        N, K, s = batch["sources"].shape
        M = self.lead.shape[0]
        told = self.read(batch["sources"].reshape(N * K, s)).reshape(M, N, K, -1) + self.which  # (M, N, K, source)
        here = batch["here"][None, :, :, None]
        told = (nn.functional.silu(told) * here).sum(dim=2) / here.sum(dim=2).clamp(min=1.0)  # (M, N, source)
        station = nn.functional.pad(self.station, (0, 0, 0, 1))[:, batch["station"]]  # (M, N, e), zero where unknown
        x = torch.cat([batch["common"].expand(M, N, -1), self.lead[:, batch["lead"]], station, told], dim=-1)
        h = nn.functional.silu(self.first(x))  # (M, N, h)
        h = h if keep is None else h * keep[0]
        g = nn.functional.silu(self.second(h))
        h = h + (g if keep is None else g * keep[1])
        found: Tensor = self.last(h)
        return found


def without_some(batch: Batch, recent: Tensor, stations: int, rates: Dropout, generator: torch.Generator) -> Batch:
    """The batch with some of its inputs missing.

    Args:
        batch: As for :meth:`StationNetwork.forward`.
        recent: (p,) 1 for common predictors that need verified observations.
        stations: How many are known; the index of an unknown one.
        rates: How often.
        generator: On the batch's device.
    """
    N, K = batch["here"].shape
    device = batch["here"].device

    def falls(*shape: int, rate: float) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator) < rate

    here = batch["here"] * ~falls(N, K, rate=rates.drop_source)
    here = torch.where(here.sum(dim=1, keepdim=True) > 0, here, batch["here"])  # never all of them
    late = falls(N, 1, rate=rates.drop_recent)
    common = torch.where(late & (recent > 0), 0.0, batch["common"])
    sources = torch.cat([batch["sources"][..., :2], torch.where(late[..., None], 0.0, batch["sources"][..., 2:])], dim=-1)
    station = torch.where(falls(N, rate=rates.drop_station), stations, batch["station"])
    return {**batch, "here": here, "common": common, "sources": sources, "station": station}


def hidden_dropout(rows: int, units: int, rate: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """(2, N, h) factors for both hidden layers, the same for all members."""
    kept = torch.rand(2, rows, units, device=like.device, generator=generator) >= rate
    return kept.to(like.dtype) / (1.0 - rate)
