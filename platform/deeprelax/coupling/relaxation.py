"""The common part of the methods that keep slow weights x and explore around them with fast weights y."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import Averaging, Momentum, Positive
from deeprelax.coupling.inner import Force, Inner
from deeprelax.coupling.kernels import nesterov_
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Schedule


class Relaxation(Coupling):
    """Slow weights x, relaxed towards an average z of fast weights y that a spring of stiffness 1/γ holds near x.

    Equations:
        y ← y - η' [g(y) + (y - x)/γ];  z ← α z + (1 - α) y      each mini-batch
        x ← x - η (x - z);  y, z ← x                             every L steps

    Args:
        gamma: γ > 0, smoothing time of the local entropy (a length²); ``inf`` switches the spring off.
        averaging: α, weight of the old average, in [0, 1); 0 takes the last iterate and keeps no average.
        outer_lr: η, step of the slow weights; 1 moves them onto z.
        outer_momentum: of the slow weights, torch's Nesterov form, in [0, 1); 0 keeps nothing.
    """

    gamma: Positive = Schedule(shape="exponential", start=100.0, end=1.0)
    averaging: Averaging = 0.75
    outer_lr: Positive = Schedule(start=1.0)
    outer_momentum: Momentum = 0.0

    @property
    def vectors(self) -> tuple[str, ...]:
        kept = ("anchor", "average" if self.averaging else "", "outer_velocity" if self.outer_momentum else "")
        return tuple(name for name in kept if name)

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["anchor"].copy_(w.fast)
        self.restart(w)

    def force(self, knobs: Knobs) -> Force:
        return Force(
            anchor="anchor",
            stiffness=1.0 / knobs["gamma"],
            average="average" if self.averaging else None,
            averaging=self.averaging,
        )

    def outer_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        for w in weights:
            gap = torch.sub(w["anchor"], self.explored(w), out=w.grad)
            nesterov_(w["anchor"], gap, self.outer_velocity(w), knobs["outer_lr"], self.outer_momentum)

    def message(self, w: Weights) -> Tensor:
        return w["anchor"]

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        self.restart(w)

    def center(self, w: Weights) -> Tensor:
        return w["anchor"]

    def inner_spring(self) -> str | None:
        return "gamma"

    def explored(self, w: Weights) -> Tensor:
        """Return z, what the fast weights found in this period."""
        return w["average"] if self.averaging else w.fast

    def outer_velocity(self, w: Weights) -> Tensor | None:
        """Return the momentum of the slow weights, if any."""
        return w["outer_velocity"] if self.outer_momentum else None

    def restart(self, w: Weights) -> None:
        """Start a period: y, z ← x."""
        w.fast.copy_(w["anchor"])
        if "average" in w:
            w["average"].copy_(w["anchor"])
