"""What the inner chains of the couplings must do exactly: their law at this very step and period, on a grid.

Entropy-SGD's own noise and Parle's gradient noise make the same chain: gradient noise of deviation s moves y by
-lr s xi, which is Langevin noise sqrt(2 lr / beta) xi for s = sqrt(2 / (lr beta)).

Shapes: A anchors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeprelax.pde.chain_law import ChainLaw
from deeprelax.pde.grid import Grid
from deeprelax.pde.inner_chain import InnerChain
from deeprelax.pde.potentials import Potential

BETA = 1.0
WAVE = Potential(
    name="wave",
    dimension=1,
    value=lambda x: (x.square() + torch.sin(3 * x)).sum(-1) / 2,
    slope=lambda x: x + 1.5 * torch.cos(3 * x),
    curvature=(-3.5, 5.5),
)
"""(x^2 + sin 3x)/2: cheap, not symmetric about the anchors, and of bounded curvature, so that long steps are stable."""


def gradient_noise(lr: float) -> float:
    """Return the deviation of gradient noise that is Langevin noise of temperature 1/BETA at this step."""
    return math.sqrt(2 / (lr * BETA))


def smoothing(potential: Potential) -> tuple[float, float]:
    """Return (gamma, lr) that suit the potential's curvature: a contracting inner chain, a step at .3 of its limit."""
    low, high = potential.curvature
    gamma = 0.5 / max(1.0, -low)
    return gamma, 0.3 / (high + 1 / gamma)


def chain_law(potential: Potential, anchor: Tensor, *, gamma: float, lr: float) -> ChainLaw:
    """Return the law of the inner chain around ``anchor``, shape (1,)."""
    chain = InnerChain(potential=potential, x=anchor, gamma=gamma, beta=BETA, inner_lr=lr)
    return ChainLaw(chain=chain, grid=Grid.covering(-6, 6, chain.noise / 2))


def period_drift(potential: Potential, x: Tensor, *, gamma: float, lr: float, period: int, averaging: float) -> Tensor:
    """Return the exact mean of one period's drift, shape (A, 1), for x of shape (A, 1).

    z = α^L x + (1 - α) sum_k α^{L-k} y_k, and E y_k is known from the law of the chain.
    """
    weights = (1 - averaging) * averaging ** torch.arange(period - 1, -1, -1, dtype=torch.float64)
    drifts = []
    for anchor in x:
        means = chain_law(potential, anchor, gamma=gamma, lr=lr).means(float(anchor), period)
        drifts.append((anchor - averaging**period * anchor - weights @ means) / gamma)
    return torch.stack(drifts)


def resting_drift(potential: Potential, x: Tensor, *, gamma: float, lr: float) -> Tensor:
    """Return the drift of an infinitely long period, shape (A, 1): the chain's law at rest, biased by its step."""
    rests = [chain_law(potential, anchor, gamma=gamma, lr=lr).stationary_mean() for anchor in x]
    return (x - torch.tensor(rests, dtype=torch.float64).unsqueeze(-1)) / gamma
