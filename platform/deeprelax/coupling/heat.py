"""Heat: gradient descent on the loss smoothed by the heat equation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import PeriodField, Positive
from deeprelax.coupling.inner import Inner
from deeprelax.coupling.smoothing import move_anchor
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Schedule


class Heat(Coupling):
    """Heat: x follows the gradient of E f(x + ξ), ξ ~ N(0, (γ/β) I), the limit β → 0 of the local entropy at fixed γ/β.

    Equations:
        p ← mean of g(x + ξ) over the period, a fresh ξ at each of its L steps
        x takes one step of the optimizer along p

    Symbols: γ ``gamma``, β ``beta``, L ``period``, step ``lr``. Only γ/β matters.

    Memory: 2 copies (``anchor``, ``direction``) beyond the inner optimizer's.

    Accuracy: p has no bias and a standard error of order -1/2 in L.

    Reference: Chaudhari et al. 2018, Deep relaxation, arXiv:1704.04932: the heat equation, and the experiments with
    it.

    Args:
        gamma: γ > 0.
        beta: β > 0, finite or not; ``inf`` is plain SGD with an L times larger batch.

    Example:
        >>> Heat(gamma=1.0, beta=1e4).vectors
        ('anchor', 'direction')
    """

    period: PeriodField = Schedule(start=5.0)
    gamma: Positive = Schedule(shape="exponential", start=1.0, end=0.01)
    beta: Positive = Schedule(start=1e4)

    single_replica: ClassVar[bool] = True

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("anchor", "direction")

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["anchor"].copy_(w.fast)
        self._scatter(w, knobs, generator)

    def local_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        for w in weights:
            w["direction"].lerp_(w.grad, 1.0 / knobs["elapsed"])
            self._scatter(w, knobs, generator)

    def outer_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        move_anchor(weights, knobs, inner, generator)

    def message(self, w: Weights) -> Tensor:
        return w["anchor"]

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        self._scatter(w, knobs, generator)

    def center(self, w: Weights) -> Tensor:
        return w["anchor"]

    @staticmethod
    def _scatter(w: Weights, knobs: Knobs, generator: torch.Generator) -> None:
        deviation = math.sqrt(knobs["gamma"] / knobs["beta"])
        torch.add(w["anchor"], w.noise(generator), alpha=deviation, out=w.fast)
