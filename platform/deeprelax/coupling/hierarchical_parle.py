"""Hierarchical Parle: deputies under a sheriff."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Knobs
from deeprelax.coupling.message import CenterStep
from deeprelax.coupling.parle import Parle
from deeprelax.coupling.weights import Weights


class HierarchicalParle(Parle):
    """Parle whose replicas x^b, the deputies, each have several workers that explore around them.

    Equations, for worker c of deputy b:
        y^bc ← y^bc - η' [g(y^bc) + (y^bc - x^b)/γ];  z^bc ← α z^bc + (1 - α) y^bc     each mini-batch
        x^b ← x^b - η (x^b - mean_c z^bc) - (η/ρ)(x^b - x̄)                             every L1 steps
        y^bc, z^bc ← x^b
        x̄ ← mean_b x^b                                                                 every L2 = K L1 steps

    The sheriff x̄ is the mean over the workers: deputies count by how many they have. Every worker moves its own copy
    of x^b by its own z^bc, and the deputy is the mean of the copies: the step is linear in z, so that is the same, also
    with momentum. A worker that is replaced starts from the sheriff, and is with its deputy after one exchange.

    What travels: the slow weights, every L1 steps; the deputy (and the sheriff) back. The center is that of the last
    multiple of L2, and of the end of the run.

    Symbols: L1 ``period``, K ``center_every``, the number of deputies ``groups``; the rest as in Parle. Replica a
    works for deputy a·groups // n, so that neighbors, and with them processes of one machine, share a deputy. K = 1
    with a deputy for each replica is Parle; one deputy without γ and α is DiLoCo without outer momentum.

    Memory: 3 copies (``anchor``, ``average``, ``center``) beyond the inner optimizer's; 1 more with ``outer_momentum``.

    Not handled: L1 and L2 that are not multiples, deputies that do not wait for each other at L1, ``codec``,
    ``fragments``, ``overlap``.

    Reference: Chaudhari et al. 2017, arXiv:1707.00424, section 3 (deputies under a sheriff).

    Args:
        groups: deputies, >= 1; at most one for each replica counts.
        center_every: K >= 1, exchanges from one move of the sheriff to the next.
        consensus: ``slow``.

    Raises:
        UnstableError: as Parle.

    Example:
        >>> coupling = HierarchicalParle(replicas=4, groups=2)
        >>> [coupling.group(a) for a in range(4)]
        [0, 0, 1, 1]
    """

    replicas: int = Field(default=4, ge=1)
    groups: int = Field(default=2, ge=1)
    center_every: int = Field(default=4, ge=1)
    consensus: Literal["slow"] = "slow"

    whole: ClassVar[bool] = True

    def group(self, index: int) -> int:
        return index * min(self.groups, self.replicas) // self.replicas

    def center_step(self, knobs: Knobs) -> CenterStep:
        due = (knobs["exchanges"] + 1) % self.center_every == 0 or knobs["final"]
        return CenterStep(lr=1.0 if due else 0.0)

    def receive_group(self, w: Weights, mean: Tensor, knobs: Knobs) -> None:
        w["anchor"].copy_(mean)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w["center"].copy_(center)
        self.restart(w)
