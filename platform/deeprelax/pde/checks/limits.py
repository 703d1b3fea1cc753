"""T4, T10, T11: the limits of the local entropy, its order between its neighbours, and what Hopf-Lax does to minima."""

from __future__ import annotations

import math

import torch

from deeprelax.pde.checks.verdict import Convergence, Verdict
from deeprelax.pde.grid import Grid
from deeprelax.pde.heat import HeatSmoothing
from deeprelax.pde.hopf_lax import HopfLax
from deeprelax.pde.local_entropy import LocalEntropy
from deeprelax.pde.minima import local_minima
from deeprelax.pde.potentials import F1, random_potential

X = Grid(low=-2, high=2, points=81).nodes()
FINE = Grid.covering(-8, 8, 0.004)
ROUNDING = 1e-12


def _to_hopf_lax() -> Verdict:
    gamma, betas = 0.2, (16.0, 32.0, 64.0, 128.0, 256.0)
    limit = HopfLax(potential=F1, gamma=gamma, grid=FINE).value(X)
    errors = [
        float((LocalEntropy(potential=F1, gamma=gamma, beta=beta, grid=FINE).value(X) - limit).abs().max())
        for beta in betas
    ]
    sizes = tuple(1 / beta for beta in betas)
    convergence = Convergence(symbol="1/β", sizes=sizes, errors=tuple(errors), expected=1.0)
    return Verdict.converges("T4", "beta -> inf: u tends to Hopf-Lax with order 1 in 1/beta", convergence, 0.1)


def _to_heat() -> Verdict:
    variance, betas = 0.1, (0.1, 0.05, 0.025, 0.0125)
    limit = HeatSmoothing(potential=F1, variance=variance).value(X)
    grid = Grid.covering(-8, 8, 0.04)
    errors = [
        float((LocalEntropy(potential=F1, gamma=beta * variance, beta=beta, grid=grid).value(X) - limit).abs().max())
        for beta in betas
    ]
    claim = "beta -> 0 at fixed t/beta: u tends to the heat flow with order 1 in beta"
    return Verdict.converges("T4", claim, Convergence(symbol="β", sizes=betas, errors=tuple(errors), expected=1.0), 0.1)


def _short_time() -> Verdict:
    beta, gammas = 2.0, (4e-4, 2e-4, 1e-4, 5e-5)
    x = X.flatten()
    curvature = 2 - 6 * math.pi**2 * torch.sin(2 * math.pi * x)
    rate = curvature / (2 * beta) - F1.gradient(X).flatten().square() / 2
    grid = Grid.covering(-2.4, 2.4, 2e-3)
    errors = [
        float(
            (LocalEntropy(potential=F1, gamma=gamma, beta=beta, grid=grid).value(X) - F1(X) - gamma * rate).abs().max()
        )
        for gamma in gammas
    ]
    claim = "t -> 0: u - f - t (f''/(2 beta) - f'^2/2) vanishes with order 2 in t"
    return Verdict.converges(
        "T4", claim, Convergence(symbol="t", sizes=gammas, errors=tuple(errors), expected=2.0), 0.1
    )


def _ordering(seed: int) -> Verdict:
    gamma, beta, worst = 0.2, 2.0, -math.inf
    for potential in (F1, random_potential(seed)):
        u = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=FINE).value(X)
        heat = HeatSmoothing(potential=potential, variance=gamma / beta).value(X)
        lowest = potential(FINE.nodes()).min()
        worst = max(worst, float((lowest - u).max()), float((u - heat).max()))
    return Verdict.at_most("T4", "min f <= u <= heat flow: largest violation", worst, ROUNDING)


def t4(seed: int) -> tuple[Verdict, ...]:
    """The limits beta -> inf, beta -> 0 and t -> 0, and the order min f <= u <= heat."""
    return _to_hopf_lax(), _to_heat(), _short_time(), _ordering(seed)


def t10(seed: int) -> tuple[Verdict, ...]:
    """Hopf-Lax keeps the minimum and merges shallow ones; viscosity merges more (deterministic: no seed)."""
    del seed
    window = Grid(low=-2.5, high=2.5, points=1001)
    wide = Grid.covering(-10, 10, 0.01)
    gammas = (0.1, 0.2, 0.4)
    envelopes = [HopfLax(potential=F1, gamma=gamma, grid=wide) for gamma in gammas]
    entropies = [LocalEntropy(potential=F1, gamma=gamma, beta=1.0, grid=wide) for gamma in gammas]
    counts = [len(local_minima(F1, window))]
    counts += [len(local_minima(envelope.value, window)) for envelope in envelopes]
    counts += [len(local_minima(entropy.value, window)) for entropy in entropies]
    expected = [5, 5, 3, 2, 2, 1, 1]
    wrong = sum(found != right for found, right in zip(counts, expected, strict=True))
    minimizer = torch.tensor(F1.minima, dtype=torch.float64)
    lost = max(abs(float(envelope.value(minimizer) - F1(minimizer))) for envelope in envelopes)
    names = "loss {}; Hopf-Lax at t = .1 .2 .4: {} {} {}; viscous beta = 1: {} {} {}".format(*counts)
    return (
        Verdict.at_most("T10", "wrong counts of the minima of F1 on [-2.5, 2.5]", wrong, 0, names),
        Verdict.at_most("T10", "Hopf-Lax keeps the global minimum value and place", lost, ROUNDING),
    )


def t11(seed: int) -> tuple[Verdict, ...]:
    """A proximal step never raises f(x+) + |x+ - x|^2 / (2 gamma) above f(x)."""
    generator = torch.Generator().manual_seed(seed)
    x = 6 * torch.rand(200, 1, generator=generator, dtype=torch.float64) - 3
    envelope = HopfLax(potential=F1, gamma=0.1, grid=Grid.covering(-8, 8, 0.01))
    slope = float((envelope.gradient(x) - F1.gradient(envelope.prox(x))).abs().max())
    worst = -math.inf
    for _ in range(10):
        moved = envelope.prox(x)
        after = F1(moved) + (moved - x).square().sum(-1) / (2 * envelope.gamma)
        worst = max(worst, float((after - F1(x)).max()))
        x = moved
    return (
        Verdict.at_most("T11", "ten proximal steps on F1 from 200 points: largest rise", worst, ROUNDING),
        Verdict.at_most("T11", "(x - x+)/gamma = f'(x+): largest difference", slope, 1e-4),
    )
