"""Elastic averaging SGD, synchronous and asynchronous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import Momentum, PeriodField
from deeprelax.coupling.message import CenterStep, Kind
from deeprelax.coupling.stability import require_elastic_stable
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError
from deeprelax.schedules import Position, Schedule


class Easgd(Coupling):
    """EASGD: every τ steps replicas and center pull each other by the fraction α_e of their gap.

    Equations (every right-hand side from time-t values, the gradient too):
        x^a ← x^a - η g(x^a) - α_e (x^a - x̄)      at an exchange; otherwise x^a ← x^a - η g(x^a)
        x̄ ← (1 - n α_e) x̄ + n α_e mean_a x^a

    What travels: the weights up, the center down. With L = 1 these are equations 5 and 6 of the paper.

    With ``mode="async"`` every replica has a clock of its own and pulls alone (Algorithm 1 of the paper):
        d = α_e (x^a - x̄);  x^a ← x^a - η g(x^a) - d;  x̄ ← x̄ + d      at its own every τ-th step
    No replica waits for another one, unless it is more than ``max_staleness`` exchanges ahead of the slowest.
    ``replica/staleness`` in the telemetry counts the exchanges of others between two of its own. On Ray the order is
    that of arrival, so numbers do not repeat; in one process it is drawn by the run's seed, one turn each a round.

    Symbols: x^a are the fast weights; τ ``period``; n α_e ``elasticity`` (the paper's β; its advice is .9); η ``lr``.

    Memory: 1 copy (``center``) beyond the inner optimizer's.

    Overlap: exact, whatever ``overlap``. The pull at an exchange is towards the x̄ of the one before.

    Reference: Zhang, Choromanska, LeCun 2015, arXiv:1412.6651, eq. 5-6 and algorithm 1.

    Args:
        elasticity: n α_e in (0, 2).
        mode: ``sync``, all pull at once, or ``async``.
        max_staleness: exchanges that a replica may be ahead of the slowest one (``async`` only).

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
    mode: Literal["sync", "async"] = "sync"
    max_staleness: int = Field(default=10, ge=1)

    exchanges: ClassVar[Literal["gradient", "weights"]] = "gradient"

    @field_validator("mode")
    @classmethod
    def _plain(cls, mode: str, info: ValidationInfo) -> str:
        plain = {"codec": None, "fragments": 1, "overlap": 0}
        others = [name for name, value in plain.items() if info.data.get(name, value) != value]
        if mode == "async" and others:
            raise ConfigError(f"Must be sync with {others[0]}: who pulls alone sends all weights, and waits for them.")
        return mode

    @property
    def alpha(self) -> float:
        """α_e, the part of its gap to the center a replica closes at one exchange."""
        return self.elasticity / self.replicas

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("center",)

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)

    @property
    def sends(self) -> Kind:
        return "elastic" if self.mode == "async" else self.kind

    @property
    def max_ahead(self) -> int:
        return self.max_staleness

    def center_step(self, knobs: Knobs) -> CenterStep:
        return CenterStep(lr=self.alpha if self.mode == "async" else self.elasticity)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        if self.mode == "async":  # the reply is the center before the pull, and both move by the same d
            w["center"].copy_(center).lerp_(w.fast, self.alpha)
            w.fast.lerp_(center, self.alpha)
            return
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
