"""Local SGD: independent steps, then the mean."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from deeprelax.coupling.base import Coupling, Knobs
from deeprelax.coupling.weights import Weights


class LocalSgd(Coupling):
    """Local SGD, also known as FedAvg (with one participant group) and PostLocalSGD: steps alone, then hard averaging.

    Equations:
        y^a ← y^a - η' g^a      each mini-batch (with the inner optimizer's momentum)
        y^a ← mean_b y^b        every L steps

    What travels: the weights. Symbols: n ``replicas``, L ``period``, η' ``lr``.

    Overlap: y^a ← x̄ + (y^a_{t+τ} - y^a_t), the steps made while x̄ travelled on top of it; see
    :meth:`~deeprelax.coupling.base.Coupling.arrive`.

    Memory: no vector beyond the inner optimizer's (1 with ``overlap``).

    Not handled: averaging of the momentum buffers (each replica keeps its own; ``momentum_policy="reset"`` drops it).

    References: McMahan et al. 2017, arXiv:1602.05629 (FedAvg, alg. 1); Stich 2019, arXiv:1805.09767; Lin et al. 2020,
    arXiv:1808.07217 (PostLocalSGD).

    Example:
        >>> LocalSgd(replicas=4, period=10).replicas
        4
    """

    replicas: int = Field(default=3, ge=1)

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.fast.copy_(center)
