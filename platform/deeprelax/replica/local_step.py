"""A local step of one replica, made at once or left to whoever makes those of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.inner import Inner
from deeprelax.coupling.weights import Weights
from deeprelax.replica.flat import FlatModel


@dataclass(frozen=True, kw_only=True)
class LocalStep:
    """What a coupling's local step is made of; see :meth:`~deeprelax.coupling.base.Coupling.local_step`."""

    coupling: Coupling
    weights: Sequence[Weights]
    knobs: Knobs
    inner: Inner
    generator: torch.Generator

    def make(self) -> None:
        """Move the weights."""
        self.coupling.local_step(self.weights, self.knobs, self.inner, self.generator)


class Company(Protocol):
    """The replicas of a process that are computed together."""

    def bind(self, model: nn.Module) -> FlatModel:
        """Put a model into flat storage, which the company may share."""
        ...

    def make_later(self, step: LocalStep) -> None:
        """Make a local step before the replica's next gradient is computed."""
        ...
