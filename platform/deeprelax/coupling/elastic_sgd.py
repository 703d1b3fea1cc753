"""Elastic-SGD: the spring to the center at every step, inside the momentum."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import Balanceable, PeriodField
from deeprelax.coupling.inner import Force
from deeprelax.coupling.stability import held_stiffness
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Schedule


class ElasticSgd(Coupling):
    """Elastic-SGD: SGD on the loss plus a spring |x^a - x̄|²/(2ρ) to the center, which is the mean.

    Equations:
        x^a ← x^a - η [g(x^a) + (x^a - x̄)/ρ]      momentum on the bracket
        x̄ ← mean_a x^a                            every L steps (the paper: every step)

    What travels: the weights. Between exchanges x̄ is the last one received; with ``overlap`` the spring pulls to the
    one before for τ steps more.

    Symbols: n ``replicas``, L ``period``, η ``lr``, ρ ``rho`` (a length²: small ρ = tight spring).

    Memory: 1 copy (``center``) beyond the inner optimizer's.

    Reference: Chaudhari et al. 2017, Parle, arXiv:1707.00424, section 2.2; scoping of ρ: 1/ρ from 1 to 10.

    Args:
        rho: ρ > 0; a schedule that falls tightens the replicas along the run; ``auto(growth)`` balances it by
            measurement and is held at half the stability bound.

    Raises:
        UnstableError: lr/ρ exceeds 2 (1 + m)/(1 + 2 m).

    Example:
        >>> ElasticSgd(replicas=3, rho="exp(1,0.1)", lr=0.1).inner_spring()
        'rho'
    """

    replicas: int = Field(default=3, ge=1)
    period: PeriodField = Schedule(start=1.0)
    rho: Balanceable = Schedule(shape="exponential", start=1.0, end=0.1)

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("center",)

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)

    def force(self, knobs: Knobs) -> Force:
        return Force(anchor="center", stiffness=held_stiffness(self.rho, knobs["rho"], knobs["lr"], self.momentum))

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)

    def depart(self, w: Weights) -> None:
        """Nothing: only the center changes."""

    def arrive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        self.receive(w, center, knobs, generator)

    def center(self, w: Weights) -> Tensor:
        return w["center"]

    def inner_spring(self) -> str | None:
        return "rho"
