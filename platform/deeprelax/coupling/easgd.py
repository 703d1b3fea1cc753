"""Elastic averaging SGD, synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import Momentum, PeriodField
from deeprelax.coupling.message import CenterStep
from deeprelax.coupling.stability import require_elastic_stable
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Position, Schedule


class Easgd(Coupling):
    """EASGD: every τ steps replicas and center pull each other by the fraction α_e of their gap.

    Equations (every right-hand side from time-t values, the gradient too):
        x^a ← x^a - η g(x^a) - α_e (x^a - x̄)      at an exchange; otherwise x^a ← x^a - η g(x^a)
        x̄ ← (1 - n α_e) x̄ + n α_e mean_a x^a

    What travels: the weights up, the center down. With L = 1 these are equations 5 and 6 of the paper.

    Symbols: x^a are the fast weights; τ ``period``; n α_e ``elasticity`` (the paper's β; its advice is .9); η ``lr``.

    Memory: 1 copy (``center``) beyond the inner optimizer's.

    Overlap: exact, whatever ``overlap``. The pull at an exchange is towards the x̄ of the one before.

    Not handled here: own clocks (asynchronous EASGD).

    Reference: Zhang, Choromanska, LeCun 2015, arXiv:1412.6651, eq. 5-6.

    Args:
        elasticity: n α_e in (0, 2).

    Raises:
        UnstableError: the elastic step alone diverges: α_e >= 2 - n α_e.

    Example:
        >>> Easgd(replicas=3, elasticity=0.9).alpha
        0.3
    """

    replicas: int = Field(default=3, ge=1)
    period: PeriodField = Schedule(start=10.0)
    momentum: Momentum = 0.0
    elasticity: float = Field(default=0.9, gt=0, allow_inf_nan=False)

    exchanges: ClassVar[Literal["gradient", "weights"]] = "gradient"

    @property
    def alpha(self) -> float:
        """α_e, the part of its gap to the center a replica closes at one exchange."""
        return self.elasticity / self.replicas

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("center",)

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)

    def center_step(self, knobs: Knobs) -> CenterStep:
        return CenterStep(lr=self.elasticity)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        self.depart(w)
        self.arrive(w, center, knobs, generator)

    def depart(self, w: Weights) -> None:
        w.fast.lerp_(w["center"], self.alpha)

    def arrive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)

    def center(self, w: Weights) -> Tensor:
        return w["center"]

    def check_stable(self, positions: Sequence[Position]) -> None:
        require_elastic_stable(self.replicas, self.elasticity)
