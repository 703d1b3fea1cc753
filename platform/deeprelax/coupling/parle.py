"""Parle: parallel Entropy-SGD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from deeprelax.coupling.base import Knobs
from deeprelax.coupling.fields import Balanceable, PeriodField
from deeprelax.coupling.inner import Inner
from deeprelax.coupling.kernels import nesterov_
from deeprelax.coupling.relaxation import Relaxation
from deeprelax.coupling.stability import held_stiffness, require_stable
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError
from deeprelax.schedules import Position, Schedule


class Parle(Relaxation):
    """Parle: n replicas of Entropy-SGD (β = ∞) whose slow weights are held together by a spring to their mean.

    Equations:
        y^a ← y^a - η' [g(y^a) + (y^a - x^a)/γ];  z^a ← α z^a + (1 - α) y^a      each mini-batch, momentum on the
        bracket
        x^a ← x^a - η (x^a - z^a) - (η/ρ)(x^a - x̄)                               every L steps
        x̄ ← mean_a x^a;  y^a, z^a ← x^a

    What travels: the slow weights, once in L steps.

    Symbols: n ``replicas``, L ``period``, γ ``gamma``, ρ ``rho``, η' ``lr``, η ``outer_lr``, α ``averaging``, momentum
    of x ``outer_momentum``.

    Overlap: exact, whatever ``overlap``. x̄ is needed only for the next outer step, so y and z start again while it
    travels; not with ``consensus="averaged"``, whose outer step waits for it.

    Memory: 3 copies (``anchor``, ``average``, ``center``) beyond the inner optimizer's; 1 more with ``outer_momentum``.

    Accuracy: without gradient noise the drift of x̄ tends to Hopf-Lax's ∇u as L grows. Gradient noise of standard
    deviation sqrt(2/(η'β)) makes it ∇f_γ at β, with a bias of order 1 in η' (without momentum) and a standard error of
    order -1/2 in n; so is the distance of x̄ from the limit of infinitely many replicas.

    The defaults are this project's: η = 1 without outer momentum. The paper's: γ_t = max(1, 100 (1 - 1/(2B))^t),
    ρ_t = max(.1, (1 - 1/(2B))^t), η' = .1 constant, η = .1 divided by 5 at drops, α = .75, both momenta .9, at exchange
    t with B mini-batches in a data pass.

    Reference: Chaudhari et al. 2017, arXiv:1707.00424, eq. 8; the authors' code couples to mean_a z^a instead of x̄
    (``consensus="averaged"``), which multiplies the outer step of the mean by 1 + 1/ρ.

    Args:
        rho: ρ > 0, the outer spring; η/ρ is the part of its gap to x̄ a replica closes per exchange; ``inf`` =
            independent.
        consensus: ``slow`` couples to mean x^a (paper), ``averaged`` to mean z^a.

    Raises:
        UnstableError: η'/γ or η (1 + 1/ρ) reaches 2 (1 + m)/(1 + 2 m), m the momentum of y or x.

    Example:
        >>> Parle(replicas=3, period=25, gamma="exp(100,1)", rho="exp(10,2)").vectors
        ('anchor', 'average', 'center')
    """

    replicas: int = Field(default=3, ge=1)
    period: PeriodField = Schedule(start=25.0)
    rho: Balanceable = Schedule(shape="exponential", start=10.0, end=2.0)
    consensus: Literal["slow", "averaged"] = "slow"

    @field_validator("consensus")
    @classmethod
    def _needs_no_reply(cls, consensus: str, info: ValidationInfo) -> str:
        if consensus == "averaged" and info.data.get("overlap"):
            raise ConfigError(
                "Must be slow with overlap: the outer step of averaged needs the mean that is travelling."
            )
        return consensus

    @property
    def vectors(self) -> tuple[str, ...]:
        return (*super().vectors, "center")

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        super().begin(w, center, knobs, generator)
        w["center"].copy_(center)

    def outer_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        if self.consensus == "slow":
            for w in weights:
                self._relax(w, knobs)

    def message(self, w: Weights) -> Tensor:
        return w["anchor"] if self.consensus == "slow" else self.explored(w)

    def depart(self, w: Weights) -> None:
        self.restart(w)

    def arrive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)
        if self.consensus == "averaged":
            self._relax(w, knobs)
        self.restart(w)

    def center(self, w: Weights) -> Tensor:
        return w["center"]

    def check_stable(self, positions: Sequence[Position]) -> None:
        super().check_stable(positions)
        require_stable(self, positions, step="outer_lr", spring="rho", momentum=self.outer_momentum, own=1.0)

    def _relax(self, w: Weights, knobs: Knobs) -> None:
        # G = (x - z) + (x - x̄)/ρ, built in the gradient's memory, which the local step has used up.
        stiffness = held_stiffness(self.rho, knobs["rho"], knobs["outer_lr"], self.outer_momentum, own=1.0)
        # Gaps first: (1 + 1/ρ) x - z - x̄/ρ would leave a rounding error in proportion to x where the replicas agree.
        force = torch.sub(w["anchor"], w["center"], out=w.grad).mul_(stiffness)
        force.add_(w["anchor"]).sub_(self.explored(w))
        nesterov_(w["anchor"], force, self.outer_velocity(w), knobs["outer_lr"], self.outer_momentum)
