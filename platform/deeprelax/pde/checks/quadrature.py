"""T1, T1b, T2, T3, T8, T12: the Cole-Hopf quadrature against the PDE, an independent solver and itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeprelax.pde.checks.verdict import Convergence, Verdict
from deeprelax.pde.grid import Grid
from deeprelax.pde.local_entropy import LocalEntropy
from deeprelax.pde.potentials import F1, F2, Potential, random_potential
from deeprelax.pde.viscous import solve_viscous

GAMMA, BETA = 0.2, 2.0
WIDE = Grid.covering(-10, 10, 0.02)
WINDOW = Grid(low=-1.5, high=1.5, points=301)
LOOK = Grid(low=-1.5, high=1.5, points=101)
# Fourth-order central differences: weights of the first and the second derivative at offsets -2..2.
FIRST = (1 / 12, -8 / 12, 0.0, 8 / 12, -1 / 12)
SECOND = (-1 / 12, 16 / 12, -30 / 12, 16 / 12, -1 / 12)
OFFSETS = (-2, -1, 0, 1, 2)


def _stencil(weights: tuple[float, ...], samples: list[Tensor], step: float) -> Tensor:
    return torch.stack(samples, -1) @ torch.tensor(weights, dtype=torch.float64) / step


def pde_terms(entropy: LocalEntropy, x: Tensor, *, step: float = 2e-3) -> tuple[Tensor, Tensor, Tensor]:
    """Return u_t, |u_x|^2 / 2 and u_xx / (2 beta) by finite differences of the values of u, each of shape (...).

    Args:
        entropy: u, in 1-d.
        x: shape (..., 1).
        step: of the differences, in x and in time relative to gamma.
    """
    tick = step * entropy.gamma
    later = [
        LocalEntropy(
            potential=entropy.potential, gamma=entropy.gamma + k * tick, beta=entropy.beta, grid=entropy.grid
        ).value(x)
        for k in OFFSETS
    ]
    beside = [entropy.value(x + k * step) for k in OFFSETS]
    slope = _stencil(FIRST, beside, step)
    return _stencil(FIRST, later, tick), slope.square() / 2, _stencil(SECOND, beside, step**2) / (2 * entropy.beta)


def t1(seed: int) -> tuple[Verdict, ...]:
    """Cole-Hopf solves the viscous Hamilton-Jacobi equation, with this sign."""
    verdicts = []
    for potential in (F1, random_potential(seed)):
        entropy = LocalEntropy(potential=potential, gamma=GAMMA, beta=BETA, grid=WIDE)
        rate, kinetic, diffusion = pde_terms(entropy, WINDOW.nodes())
        residual = float((rate + kinetic - diffusion).abs().max())
        flipped = float((rate - kinetic - diffusion).abs().max())
        claim = f"u_t + u_x^2/2 = u_xx/(2 beta) for {potential.name}: largest residual"
        verdicts.append(Verdict.at_most("T1", claim, residual, 1e-4, f"with the sign of u_x^2/2 flipped {flipped:.3g}"))
        if potential is F1:
            claim = "with the sign of u_x^2/2 flipped the residual of F1 is at least"
            verdicts.append(Verdict.at_least("T1", claim, flipped, 1.0))
    return tuple(verdicts)


def t1b(seed: int) -> tuple[Verdict, ...]:
    """A monotone upwind solver agrees with Cole-Hopf, to first order in dx (deterministic: no seed)."""
    del seed
    entropy = LocalEntropy(potential=F1, gamma=GAMMA, beta=BETA, grid=WIDE)
    spacings = (0.04, 0.02, 0.01, 0.005)
    errors = []
    for spacing in spacings:
        grid = Grid.covering(-3.2, 3.2, spacing)
        middle = grid.axis().abs() <= WINDOW.high
        solved = solve_viscous(F1, gamma=GAMMA, beta=BETA, grid=grid)[middle]
        errors.append(float((solved - entropy.value(grid.nodes()[middle])).abs().max()))
    convergence = Convergence(symbol="dx", sizes=spacings, errors=tuple(errors), expected=1.0)
    return (
        Verdict.converges("T1b", "the upwind solver converges to Cole-Hopf with order 1 in dx", convergence, 0.1),
        Verdict.at_most("T1b", f"difference of the two at dx = {spacings[-1]}", errors[-1], 0.02),
    )


def _fields(seed: int) -> list[tuple[LocalEntropy, Tensor]]:
    surface = random_potential(seed, dimension=2)
    narrowest = 1 / math.sqrt(BETA * (1 / GAMMA + surface.curvature[1]))
    plane = Grid.covering(-7, 7, min(0.1, 0.7 * narrowest), dimension=2)
    cases: list[tuple[Potential, Grid, Grid]] = [
        (F1, WIDE, LOOK),
        (F2, WIDE, LOOK),
        (random_potential(seed), WIDE, LOOK),
        (surface, plane, Grid(low=-1.5, high=1.5, points=5, dimension=2)),
    ]
    return [
        (LocalEntropy(potential=potential, gamma=GAMMA, beta=BETA, grid=grid), window.nodes())
        for potential, grid, window in cases
    ]


def t2(seed: int) -> tuple[Verdict, ...]:
    """The gradient is (x - <y>)/t = <grad f(y)>, in 1-d and 2-d."""
    verdicts = []
    for entropy, x in _fields(seed):
        gradient = entropy.gradient(x)
        difference = float((_difference(entropy, x) - gradient).abs().max())
        twice = float((gradient - entropy.mean_gradient(x)).abs().max())
        name = f"{entropy.potential.name} ({entropy.potential.dimension}-d)"
        verdicts.append(Verdict.at_most("T2", f"grad u = (x - <y>)/t for {name}", difference, 1e-4))
        verdicts.append(Verdict.at_most("T2", f"(x - <y>)/t = <grad f(y)> for {name}", twice, 1e-4))
    return tuple(verdicts)


def _difference(entropy: LocalEntropy, x: Tensor, step: float = 2e-3) -> Tensor:
    axes = torch.eye(x.shape[-1], dtype=torch.float64)
    return torch.stack(
        [_stencil(FIRST, [entropy.value(x + k * step * axis) for k in OFFSETS], step) for axis in axes], -1
    )


def t3(seed: int) -> tuple[Verdict, ...]:
    """The Hessian is I/t - (beta/t^2) Cov(y), in 1-d and 2-d."""
    verdicts = []
    step = 2e-3
    for entropy, x in _fields(seed):
        axes = torch.eye(x.shape[-1], dtype=torch.float64)
        columns = [_stencil(FIRST, [entropy.gradient(x + k * step * axis) for k in OFFSETS], step) for axis in axes]
        error = float((torch.stack(columns, -1) - entropy.hessian(x)).abs().max())
        claim = f"D^2 u = I/t - (beta/t^2) Cov(y) for {entropy.potential.name} ({entropy.potential.dimension}-d)"
        verdicts.append(Verdict.at_most("T3", claim, error, 1e-4))
    return tuple(verdicts)


def t8(seed: int) -> tuple[Verdict, ...]:
    """Semiconcavity: the curvature of u is at most 1/(1/C + t), C = sup f'' (deterministic: no seed)."""
    del seed
    x = Grid(low=-3, high=3, points=1201).nodes()
    verdicts = []
    for gamma in (0.05, 0.2, 1.0, 5.0):
        entropy = LocalEntropy(potential=F1, gamma=gamma, beta=BETA, grid=WIDE)
        bound = 1 / (1 / F1.curvature[1] + gamma)
        verdicts.append(Verdict.at_most("T8", f"sup u_xx of F1 at t = {gamma}", float(entropy.hessian(x).max()), bound))
    return tuple(verdicts)


def _pair(single: Potential) -> Potential:
    return Potential(
        name=f"two replicas of {single.name}", dimension=2, value=lambda y: single(y[..., :1]) + single(y[..., 1:])
    )


def t12(seed: int) -> tuple[Verdict, ...]:
    """The x-marginal of two replicas around x is exp(-2 beta f_gamma), by a quadrature over both."""
    verdicts = []
    grid = Grid.covering(-5, 5, 0.05)
    pair_grid = Grid.covering(-5, 5, 0.05, dimension=2)
    x = Grid(low=-1.5, high=1.5, points=9).nodes()
    for single in (F2, random_potential(seed, roughness=0.5)):
        pair = _pair(single)
        both = LocalEntropy(potential=pair, gamma=GAMMA, beta=BETA, grid=pair_grid).value(x.expand(-1, 2))
        alone = LocalEntropy(potential=single, gamma=GAMMA, beta=BETA, grid=grid).value(x)
        marginal, claimed = torch.softmax(-BETA * both, 0), torch.softmax(-2 * BETA * alone, 0)
        error = float((marginal - claimed).abs().max())
        verdicts.append(Verdict.at_most("T12", f"marginal of {pair.name} = exp(-2 beta u)", error, 1e-12))
    return tuple(verdicts)
