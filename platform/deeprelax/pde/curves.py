"""The data behind the pictures of the theory; drawing them is left to the caller.

Shapes: K values of gamma, X nodes in x, T times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.pde.control import ControlProblem
from deeprelax.pde.fokker_planck import AuxiliaryFokkerPlanck, contraction_rate
from deeprelax.pde.grid import Grid
from deeprelax.pde.heat import HeatSmoothing
from deeprelax.pde.hopf_lax import HopfLax
from deeprelax.pde.local_entropy import LocalEntropy
from deeprelax.pde.minima import local_minima
from deeprelax.pde.potentials import Potential


@dataclass(frozen=True, kw_only=True)
class Relaxations:
    """One loss under the three smoothings.

    Args:
        x: shape (X,).
        loss: f, shape (X,).
        gammas: the smoothing times, K of them.
        viscous: local entropy at beta, shape (K, X).
        non_viscous: Hopf-Lax, beta = infinity, shape (K, X).
        heat: Gaussian smoothing of variance gamma/beta, shape (K, X).
    """

    x: Tensor
    loss: Tensor
    gammas: tuple[float, ...]
    viscous: Tensor
    non_viscous: Tensor
    heat: Tensor


def relaxations(potential: Potential, gammas: Sequence[float], *, beta: float, window: Grid, grid: Grid) -> Relaxations:
    """Return u(x, gamma) for each gamma: viscous, non-viscous and heat.

    Args:
        potential: f, of dimension 1.
        gammas: smoothing times; scoping runs through them from the largest to the smallest.
        beta: inverse temperature of the viscous one; also sets the variance of the heat smoothing.
        window: the x of the picture.
        grid: quadrature nodes, see :class:`~deeprelax.pde.local_entropy.LocalEntropy`.

    Raises:
        ConfigError: a grid is too narrow or too coarse.
    """
    x = window.nodes()
    entropies = [LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=grid) for gamma in gammas]
    envelopes = [HopfLax(potential=potential, gamma=gamma, grid=grid) for gamma in gammas]
    heats = [HeatSmoothing(potential=potential, variance=gamma / beta, order=128) for gamma in gammas]
    return Relaxations(
        x=window.axis(),
        loss=potential(x),
        gammas=tuple(gammas),
        viscous=torch.stack([entropy.value(x) for entropy in entropies]),
        non_viscous=torch.stack([envelope.value(x) for envelope in envelopes]),
        heat=torch.stack([heat.value(x) for heat in heats]),
    )


@dataclass(frozen=True, kw_only=True)
class Merging:
    """Where the local minima are as gamma grows; the first row (gamma = 0) is the loss itself.

    Args:
        gammas: 0 and the smoothing times, K + 1 of them.
        viscous: the minima of the local entropy at each gamma, K + 1 tensors of shape (M,).
        non_viscous: the same for Hopf-Lax.
    """

    gammas: tuple[float, ...]
    viscous: tuple[Tensor, ...]
    non_viscous: tuple[Tensor, ...]


def merging(potential: Potential, gammas: Sequence[float], *, beta: float, window: Grid, grid: Grid) -> Merging:
    """Return the minima inside ``window`` as the smoothing time grows. Arguments as :func:`relaxations`."""
    entropies = [LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=grid) for gamma in gammas]
    envelopes = [HopfLax(potential=potential, gamma=gamma, grid=grid) for gamma in gammas]
    loss = local_minima(potential, window)
    return Merging(
        gammas=(0.0, *gammas),
        viscous=(loss, *(local_minima(entropy.value, window) for entropy in entropies)),
        non_viscous=(loss, *(local_minima(envelope.value, window) for envelope in envelopes)),
    )


@dataclass(frozen=True, kw_only=True)
class Decay:
    """The inner chain's law on its way to the Gibbs measure, every tensor of shape (T,).

    Args:
        times: 0 to the horizon.
        wasserstein: W2(p_t, p).
        wasserstein_bound: exp(-lambda t) W2(p_0, p).
        entropy: KL(p_t | p).
        entropy_bound: exp(-2 lambda t) KL(p_0 | p).
    """

    times: Tensor
    wasserstein: Tensor
    wasserstein_bound: Tensor
    entropy: Tensor
    entropy_bound: Tensor


def decay(equation: AuxiliaryFokkerPlanck, start: Tensor, *, horizon: float, steps: int) -> Decay:
    """Return the decay of W2 and KL with their bounds, lambda = 1/gamma - c.

    Args:
        equation: whose law is followed.
        start: probabilities of its nodes at time 0, shape (points,).
        horizon: last time.
        steps: number of times after 0.
    """
    rate = contraction_rate(equation.potential, equation.gamma)
    laws = equation.laws(start, dt=horizon / steps, steps=steps)
    times = torch.linspace(0, horizon, steps + 1, dtype=torch.float64)
    wasserstein, entropy = equation.wasserstein(laws), equation.relative_entropy(laws)
    return Decay(
        times=times,
        wasserstein=wasserstein,
        wasserstein_bound=wasserstein[0] * torch.exp(-rate * times),
        entropy=entropy,
        entropy_bound=entropy[0] * torch.exp(-2 * rate * times),
    )


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """Where SGD and the optimally controlled SGD end, every tensor of shape (X,).

    Args:
        x: the nodes.
        terminal: V.
        value: u(x, 0).
        plain: density of x_T under SGD.
        controlled: density of x_T under the optimal control.
    """

    x: Tensor
    terminal: Tensor
    value: Tensor
    plain: Tensor
    controlled: Tensor


def controlled_against_plain(problem: ControlProblem, start: float) -> Controlled:
    """Return the terminal densities from ``start`` with and without the optimal control."""
    plain, controlled = problem.terminal_laws(start)
    spacing = problem.grid.spacing
    return Controlled(
        x=problem.grid.axis(),
        terminal=problem.terminal(problem.grid.nodes()),
        value=problem.values[0],
        plain=plain / spacing,
        controlled=controlled / spacing,
    )
