"""HJ: gradient descent on the solution of the non-viscous Hamilton-Jacobi equation, Entropy-SGD's limit β → ∞."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from deeprelax.coupling.base import Knobs
from deeprelax.coupling.fields import Averaging, PeriodField
from deeprelax.coupling.inner import Inner
from deeprelax.coupling.relaxation import Relaxation
from deeprelax.coupling.smoothing import move_anchor
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Position, Schedule


class Hj(Relaxation):
    """HJ: x follows -∇u(x, γ) with u(x, γ) = min_y f(y) + |x - y|²/(2γ) (Hopf-Lax).

    Equations, ``variant="descent"`` (the proximal point is sought by gradient descent, as in Entropy-SGD without
    noise):
        y ← y - η' [g(y) + (y - x)/γ];  z ← α z + (1 - α) y;  every L: x ← x - η (x - z), y, z ← x

    ``variant="fixed_point"`` (∇u = p solves p = ∇f(x - γp)):
        p ← g(x) first, then p ← d p + (1 - d) g(x - γp);  every L: x takes one step of the optimizer along p

    Symbols: γ ``gamma``, L ``period``, η' ``lr``, η ``outer_lr``, α ``averaging``, d ``damping``.

    Memory: 1 copy (``anchor``) beyond the inner optimizer's; 1 more with ``averaging`` > 0; the fixed point 2 copies
    (``anchor``, ``direction``).

    Accuracy: the error of the drift is geometric in L, by the factor 1 - η'(1/γ + h) a step for the descent (no
    momentum) and |d - (1 - d) γh| for the fixed point, h the curvature at the proximal point. The path of x is of order
    1 in the outer step.

    The fixed point contracts while γh < (1 + d)/(1 - d) for curvatures up to h; h is not known beforehand, so this is
    not checked.

    Reference: Chaudhari et al. 2018, Deep relaxation, arXiv:1704.04932: Hopf-Lax, and the experiments with HJ.

    Args:
        variant: ``descent`` or ``fixed_point``.
        damping: d in [0, 1), fixed point only.

    Example:
        >>> Hj(variant="fixed_point", gamma=0.1, period=5).vectors
        ('anchor', 'direction')
    """

    period: PeriodField = Schedule(start=5.0)
    averaging: Averaging = 0.0
    momentum_policy: Literal["keep", "reset"] = "keep"
    variant: Literal["descent", "fixed_point"] = "descent"
    damping: Averaging = 0.5

    single_replica: ClassVar[bool] = True

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("anchor", "direction") if self.variant == "fixed_point" else super().vectors

    def local_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        if self.variant == "descent":
            super().local_step(weights, knobs, inner, generator)
            return
        newest = 1.0 if knobs["elapsed"] == 1 else 1.0 - self.damping
        for w in weights:
            w["direction"].lerp_(w.grad, newest)
            torch.sub(w["anchor"], w["direction"], alpha=knobs["gamma"], out=w.fast)

    def outer_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        if self.variant == "descent":
            super().outer_step(weights, knobs, inner, generator)
        else:
            move_anchor(weights, knobs, inner, generator)

    def check_stable(self, positions: Sequence[Position]) -> None:
        if self.variant == "descent":
            super().check_stable(positions)
