"""Lookahead: slow weights that follow the fast ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import PeriodField
from deeprelax.coupling.inner import Inner
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Schedule


class Lookahead(Coupling):
    """Lookahead: k steps of any optimizer forward, one step back.

    Equations:
        y ← y - η' g(y)                  each mini-batch (any inner optimizer)
        x ← x + a (y - x);  y ← x        every L steps

    Symbols: a ``slow_lr`` (the paper's α), L ``period`` (the paper's k). It is Entropy-SGD without spring, noise and
    average.

    Memory: 1 copy (``anchor``) beyond the inner optimizer's.

    Reference: Zhang, Lucas, Hinton, Ba 2019, arXiv:1907.08610, alg. 1.

    Args:
        slow_lr: a in (0, 1].

    Example:
        >>> Lookahead(slow_lr=0.5, period=5).vectors
        ('anchor',)
    """

    period: PeriodField = Schedule(start=5.0)
    slow_lr: float = Field(default=0.5, gt=0, le=1)

    single_replica: ClassVar[bool] = True

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("anchor",)

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["anchor"].copy_(w.fast)

    def outer_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        for w in weights:
            w["anchor"].lerp_(w.fast, self.slow_lr)
            w.fast.copy_(w["anchor"])

    def message(self, w: Weights) -> Tensor:
        return w["anchor"]

    def center(self, w: Weights) -> Tensor:
        return w["anchor"]
