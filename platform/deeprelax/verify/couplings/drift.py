"""The drift that a coupling's outer steps really apply, seen from outside: how far the slow weights moved.

Every method here moves its slow weights x by a known multiple of its estimate of grad u(x, gamma); the drift is the
displacement over that multiple.

Shapes: A anchors, P paths from each, in one replica.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeprelax.coupling import Coupling
from deeprelax.pde.grid import Grid
from deeprelax.pde.hopf_lax import HopfLax
from deeprelax.pde.local_entropy import LocalEntropy
from deeprelax.pde.potentials import Potential
from deeprelax.verify.couplings.bed import GradientNoise, Group

SMALL_STEP = 1e-6
"""An outer step so small that the anchors stand still while the drift is measured, far above rounding."""
# The largest of about ten deviations that a correct mean may show.
STANDARD_ERRORS = 4.5
GRID = Grid.covering(-8, 8, 0.02)


def anchors(count: int) -> Tensor:
    """Return ``count`` points from -1.5 to 1.5, shape (count, 1)."""
    return torch.linspace(-1.5, 1.5, count, dtype=torch.float64).unsqueeze(-1)


def applied_drift(
    coupling: Coupling,
    potential: Potential,
    x: Tensor,
    *,
    scale: float,
    paths: int = 2,
    periods: int = 1,
    seed: int = 0,
    noise: GradientNoise | None = None,
) -> Tensor:
    """Return the drift of the last of ``periods`` outer steps, mean of the replicas, shape (A, P).

    Args:
        coupling: a method with slow weights ``anchor``, of constant period.
        potential: f, of dimension 1.
        x: the anchors, where all replicas start, shape (A, 1).
        scale: displacement of the slow weights over their estimate of grad u.
        paths: P.
        periods: outer steps; before the last the anchors must stand still, see ``SMALL_STEP``.
        seed: of the library's own noise.
        noise: added to the gradients, shape (A * P, 1).
    """
    start = x.repeat_interleave(paths, 0)
    group = Group(coupling, potential, start.expand(coupling.replicas, *start.shape), seed=seed)
    period = round(coupling.period.start)
    before = start
    if periods > 1:
        before = group.train((periods - 1) * period, noise=noise).points("anchor").mean(0)
    group.train(period, noise=noise)
    return ((before - group.points("anchor").mean(0)) / scale).reshape(len(x), paths)


def mirrored(potential: Potential) -> Potential:
    """Return f(-y).

    A chain on it from -x draws, from the same seed, the path that the noise of the opposite sign drives from x; the
    mean of the two has much less noise (antithetic variates).
    """
    return Potential(
        name=f"mirrored {potential.name}",
        dimension=potential.dimension,
        value=lambda y: potential(-y),
        slope=lambda y: -potential.gradient(-y),
    )


def entropy_gradient(potential: Potential, x: Tensor, *, gamma: float, beta: float) -> Tensor:
    """Return grad u(x, gamma) by quadrature, shape (A, 1)."""
    return LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=GRID).gradient(x)


def hopf_lax(potential: Potential, gamma: float) -> HopfLax:
    """Return the non-viscous solution, whose gradient the methods without noise follow."""
    return HopfLax(potential=potential, gamma=gamma, grid=GRID)


def debiased_rms(errors: Tensor) -> float:
    """Return the root mean square over A of the means of ``errors``, shape (A, P), freed of their sampling noise.

    The square of a sample mean is too large by its variance, which is subtracted; 0 if nothing is left.
    """
    squares = errors.mean(1).square() - errors.var(1) / errors.shape[1]
    return math.sqrt(max(float(squares.mean()), 0.0))


def standard_errors_away(samples: Tensor, exact: Tensor) -> float:
    """Return the largest deviation of the means of ``samples``, shape (A, P), from ``exact``, shape (A, 1)."""
    errors = samples.std(1) / samples.shape[1] ** 0.5
    return float(((samples.mean(1) - exact.squeeze(-1)).abs() / errors).max())
