"""DiLoCo: many local steps, then one momentum step of the center along the mean displacement."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.fields import Momentum, PeriodField, Positive
from deeprelax.coupling.message import CenterStep
from deeprelax.coupling.weights import Weights
from deeprelax.schedules import Schedule


class Diloco(Coupling):
    """DiLoCo: H inner steps on every replica, an outer Nesterov step on Δ = x̄ - mean_a y^a, and a hard reset.

    Equations:
        y^a ← inner optimizer step on g(y^a)                    each mini-batch
        Δ = x̄ - mean_a y^a;  v ← m v + Δ;  x̄ ← x̄ - η (Δ + m v)    every L steps
        y^a ← x̄

    What travels: the weights up, the center down. The outer momentum lives with the center, once, so a replica that
    joins later needs nothing but x̄.

    Symbols: H (L) ``period``, η ``outer_lr``, m ``outer_momentum``; the paper's inner optimizer is AdamW.

    Overlap: y^a ← x̄ + (y^a_{t+τ} - y^a_t), the steps made while x̄ travelled on top of it; see
    :meth:`~deeprelax.coupling.base.Coupling.arrive`.

    Memory: no vector beyond the inner optimizer's (1 with ``overlap``); 2 copies (center and momentum) where the center
    lives.

    Reference: Douillard et al. 2023, arXiv:2311.08105, alg. 1 (outer lr .7, momentum .9, H = 500).

    Args:
        outer_lr: η > 0.
        outer_momentum: m in [0, 1).

    Example:
        >>> Diloco(replicas=3, period=50, outer_lr=0.7).center_step({"outer_lr": 0.7})
        CenterStep(lr=0.7, momentum=0.9)
    """

    replicas: int = Field(default=3, ge=1)
    period: PeriodField = Schedule(start=50.0)
    outer_lr: Positive = Schedule(start=0.7)
    outer_momentum: Momentum = 0.9

    def center_step(self, knobs: Knobs) -> CenterStep:
        return CenterStep(lr=knobs["outer_lr"], momentum=self.outer_momentum)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.fast.copy_(center)
