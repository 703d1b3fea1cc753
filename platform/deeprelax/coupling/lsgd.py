"""Leader SGD: a spring to the best replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import PeriodField, Positive
from deeprelax.coupling.inner import Force
from deeprelax.coupling.stability import require_stable
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Position, Schedule


class Lsgd(Coupling):
    """Leader SGD (LSGD): SGD with springs to the best replica of all and to the best one of its group.

    Equations, for replica a of group j:
        x^a ← x^a - η [g(x^a) + (x^a - x̃)/ρ + (x^a - x̃^j)/ρ_j]      momentum on the bracket
        x̃ ← x^b with the lowest loss of all b;  x̃^j ← of those in j     every L steps

    A replica's loss is the mean over its mini-batches since the last exchange. The center, which is evaluated and
    saved, is the leader x̃.

    What travels: the weights of all up, the leaders' down.

    Symbols: n ``replicas``, L ``period``, η ``lr``, ρ ``rho``, ρ_j ``group_rho`` (lengths²: the paper's λ_G is η/ρ, its
    λ is η/ρ_j). Replica a is in group a·groups // n. With both springs infinite it is independent SGD.

    Memory: 1 copy (``center``) beyond the inner optimizer's; 1 more (``target``, where both springs together pull)
    with several ``groups``.

    Not handled: ``codec``, ``fragments``, ``overlap``.

    Differs from the paper: leaders of groups and of all are chosen at the same exchange; with groups the springs'
    share in ``target`` is that of the last exchange.

    Reference: Teng et al. 2019, arXiv:1905.10395.

    Args:
        rho: ρ > 0; ``inf`` switches the spring to the leader of all off.
        group_rho: ρ_j > 0; counts with several groups only.
        groups: >= 1; at most one for each replica counts.

    Raises:
        UnstableError: lr (1/ρ + 1/ρ_j) reaches 2 (1 + m)/(1 + 2 m).

    Example:
        >>> Lsgd(replicas=4, rho=2).vectors
        ('center',)
        >>> Lsgd(replicas=4, groups=2).vectors
        ('center', 'target')
    """

    replicas: int = Field(default=3, ge=1)
    period: PeriodField = Schedule(start=10.0)
    rho: Positive = Schedule(start=1.0)
    group_rho: Positive = Schedule(start=1.0)
    groups: int = Field(default=1, ge=1)

    ranked: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    @property
    def vectors(self) -> tuple[str, ...]:
        return ("center", "target") if self.groups > 1 else ("center",)

    def group(self, index: int) -> int | None:
        return index * min(self.groups, self.replicas) // self.replicas if self.groups > 1 else None

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        for name in self.vectors:
            w[name].copy_(center)

    def force(self, knobs: Knobs) -> Force:
        if self.groups == 1:
            return Force(anchor="center", stiffness=1.0 / knobs["rho"])
        return Force(anchor="target", stiffness=1.0 / knobs["rho"] + 1.0 / knobs["group_rho"])

    def receive_group(self, w: Weights, mean: Tensor, knobs: Knobs) -> None:
        w["target"].copy_(mean)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)
        if self.groups > 1:
            # k (x - a) + l (x - b) = (k + l)(x - c) with c = b + k/(k + l) (a - b)
            of_all, of_group = 1.0 / knobs["rho"], 1.0 / knobs["group_rho"]
            w["target"].lerp_(center, of_all / (of_all + of_group) if of_all else 0.0)

    def center(self, w: Weights) -> Tensor:
        return w["center"]

    def inner_spring(self) -> str | None:
        return "rho"

    def check_stable(self, positions: Sequence[Position]) -> None:
        if self.spring == "coupled" and (self.optimizer or "sgd") != "sgd":
            return
        momentum = self.momentum if self.spring == "coupled" else 0.0
        # Each spring is checked beside the other one at its stiffest.
        for spring, other in (("rho", self.group_rho), ("group_rho", self.rho)):
            own = max(1.0 / length for length in other.values) if self.groups > 1 else 0.0
            if spring == "rho" or self.groups > 1:
                require_stable(self, positions, step="lr", spring=spring, momentum=momentum, own=own)
