"""The local entropy and its gradient in any dimension, by thermodynamic integration along the weight of the loss.

Equations, with the Gibbs measures p_s of :mod:`deeprelax.flatness.gibbs` and < . >_s their means::

    f_gamma(x)       =  -1/beta log E exp(-beta f(x + xi)),  xi ~ N(0, gamma/beta)
    f_gamma(x)       =  integral of <f(y)>_s ds over s in [0, 1]            since d/ds of -1/beta log Z_s is <f(y)>_s
    grad f_gamma(x)  =  (x - <y>_1) / gamma  =  <grad f(y)>_1
    <f>_1  <=  f_gamma(x)  <=  <f>_0                                        <f>_s falls with s (Gibbs-Bogoliubov)

A chain starts in the free cloud s = 0, where it is drawn exactly, goes up to s = 1 in ``steps`` steps with s_k = (k /
steps)^2, stays for ``steps`` steps, whose mean gradient is kept, and goes down again. The integral is taken by the
trapezoidal rule on the way up and on the way down.

Bias. A chain that moves at finite speed lags behind p_s: up it sees a loss too high, down too low. ``up`` lies above
f_gamma in expectation (the second law: mean work exceeds the difference of free energy), ``down`` below it if the chain
has reached p_1; their mean is the value, and half their difference, the ``hysteresis``, bounds the bias that is left.
It falls like 1/steps; if it is not small against f_gamma(x) - f(x), give more steps. The trapezoidal rule adds
O(1/steps^2), upwards. Each step of the chain itself is free of bias (Metropolis). The gradient has the bias of a chain
that has not reached p_1: too long, where a stiff direction still relaxes.

(x - <y>)/gamma has the same mean as <grad f(y)>, but the noise sqrt(P / (gamma beta)) of all flat directions; the
latter is taken. Its squared norm is estimated by products of different chains, without bias from their noise.

Cost: chains x 3 steps gradients over the samples. Memory: about 8 + chains vectors of P.

References: Chaudhari et al. 2017 (arXiv 1704.04932) section 2; Kirkwood 1935; Jarzynski 1997 (cond-mat/9610209) for the
work; Chaudhari et al. 2016 (arXiv 1611.01838) eq. 6.

Shapes: C chains, P = trained parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deeprelax.flatness.config import FlatnessConfig
from deeprelax.flatness.estimate import Estimate
from deeprelax.flatness.gibbs import GibbsChain, State
from deeprelax.flatness.landscape import Landscape


@dataclass(frozen=True, kw_only=True)
class Smoothed:
    """What the chains found.

    Args:
        local_entropy: f_gamma(x).
        hysteresis: bound of its bias, see the module.
        gradient_norm: |grad f_gamma(x)|.
        acceptance: part of the proposals taken; near 0 the chains have not moved and nothing above can be trusted.
    """

    local_entropy: Estimate
    hysteresis: float
    gradient_norm: Estimate
    acceptance: float


class _Trip(NamedTuple):
    """One chain's way up, stay and way down."""

    up: float
    gradient: Tensor
    down: float


def local_entropy(
    landscape: Landscape, config: FlatnessConfig, stiffest: float, generator: torch.Generator
) -> Smoothed:
    """Estimate f_gamma and its gradient's norm at the landscape's own point.

    Args:
        landscape: f and x.
        config: gamma, beta, steps and chains.
        stiffest: largest curvature of f around x; the chains' step is made for it. A wrong one costs steps, not truth.
        generator: of all noise, on the CPU.
    """
    chain = GibbsChain(
        landscape=landscape,
        gamma=config.gamma,
        beta=config.beta,
        stiffest=max(stiffest, 0.0),
        generator=generator,
    )
    trips = [_trip(chain, config.steps) for _ in range(config.chains)]
    up = torch.tensor([trip.up for trip in trips], dtype=torch.float64)
    down = torch.tensor([trip.down for trip in trips], dtype=torch.float64)
    return Smoothed(
        local_entropy=Estimate.of_mean((up + down) / 2),
        hysteresis=float((up - down).mean()) / 2,
        gradient_norm=_norm_of_mean(torch.stack([trip.gradient for trip in trips])),
        acceptance=chain.accepted / chain.proposed,
    )


def _trip(chain: GibbsChain, steps: int) -> _Trip:
    scales = [(k / steps) ** 2 for k in range(steps + 1)]
    start = state = chain.free()
    values = [start.value]
    for scale in scales[1:]:
        state = chain.step(state, scale)
        values.append(state.value)
    up = _integral(values, scales)
    state, gradient = _stay(chain, state, steps)
    values = [state.value]
    for scale in scales[-2:0:-1]:
        state = chain.step(state, scale)
        values.append(state.value)
    values.append(start.value)
    return _Trip(up, gradient, _integral(values[::-1], scales))


def _stay(chain: GibbsChain, state: State, steps: int) -> tuple[State, Tensor]:
    """Return the state after ``steps`` steps under the Gibbs measure and the mean of their gradients."""
    total = torch.zeros_like(state.gradient)
    for _ in range(steps):
        state = chain.step(state, 1.0)
        total += state.gradient
    return state, total / steps


def _integral(values: list[float], scales: list[float]) -> float:
    """Return the trapezoidal rule; the values are summed in float64."""
    return float(torch.trapezoid(torch.tensor(values, dtype=torch.float64), torch.tensor(scales, dtype=torch.float64)))


def _norm_of_mean(vectors: Tensor) -> Estimate:
    """Return the norm of the mean of which the rows, shape (C, P), are independent draws.

    |mean|^2 is the mean of v_i . v_j over i != j, which noise does not lift; a negative one is chance and gives 0. The
    standard error is the jackknife's over the chains, carried to the root.
    """
    products = (vectors @ vectors.T).double()
    square = _off_diagonal_mean(products)
    count = len(vectors)
    others = [torch.arange(count) != i for i in range(count)]
    left_out = torch.tensor([_off_diagonal_mean(products[kept][:, kept]) for kept in others])
    spread = math.sqrt(float((left_out - left_out.mean()).square().sum()) * (count - 1) / count)
    norm = math.sqrt(max(square, 0.0))
    return Estimate(norm, spread / (2 * norm) if norm else math.sqrt(spread))


def _off_diagonal_mean(matrix: Tensor) -> float:
    count = len(matrix)
    return float(matrix.sum() - matrix.diagonal().sum()) / (count * (count - 1))
