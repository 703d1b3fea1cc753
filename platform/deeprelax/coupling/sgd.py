"""Data-parallel SGD: the baseline that communicates at every step."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import PeriodField
from deeprelax.coupling.message import Kind
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError
from deeprelax.schedules import Schedule


class Sgd(Coupling):
    """SGD with Nesterov momentum on the mean gradient of the replicas (synchronous data parallelism, as DDP).

    Equations:
        g ← mean_a g^a;  v ← m v + g;  y ← y - η'(g + m v)

    What travels: the gradient, at every step; the period is 1. The weights of all replicas stay equal.

    Symbols: n ``replicas``, η' ``lr``, m ``momentum``.

    Memory: no vector beyond the inner optimizer's.

    A lost replica stops the group, as it does in DDP: it goes back to the newest checkpoint.

    Reference: Li et al. 2020, PyTorch Distributed, arXiv:2006.15704 (DDP); the momentum is torch's form of Sutskever et
    al. 2013, On the importance of initialization and momentum in deep learning.

    Example:
        >>> Sgd(replicas=3, lr="cos(0.1,0)").period.start
        1.0
    """

    period: PeriodField = Schedule(start=1.0)

    exchanges: ClassVar[Literal["gradient", "weights"]] = "gradient"
    kind: ClassVar[Kind] = "mean"

    @property
    def survives_loss(self) -> bool:
        return False

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.fast.copy_(center)

    def message(self, w: Weights) -> Tensor:
        return w.grad

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.grad.copy_(center)

    @field_validator("period")
    @classmethod
    def _every_step(cls, period: Schedule) -> Schedule:
        if period.values != (1.0,):
            raise ConfigError("Must be 1: the replicas of sgd share every gradient; for less talk use local_sgd.")
        return period
