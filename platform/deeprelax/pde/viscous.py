"""An independent solver of the viscous Hamilton-Jacobi equation: monotone, explicit, first order in dx.

It shares nothing with the Cole-Hopf quadrature, so that their agreement is evidence for both::

    u_t + |u_x|^2 / 2 = nu u_xx,   nu = 1 / (2 beta),   u(., 0) = f

Godunov's flux for the convex Hamiltonian p^2/2 takes the one-sided slope that information comes from,
``max(p_left^+, p_right^-)^2 / 2``. The scheme is monotone while ``dt (2 nu / dx^2 + sup|p| / dx) <= 1``. sup|p| does
not grow, so the step is fixed from the initial slopes. At the ends the second difference of the neighbour is continued:
a confining loss sends its characteristics outward, and what the ends get wrong stays there.

Reference: Crandall and Lions 1984, Two approximations of solutions of Hamilton-Jacobi equations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.grid import Grid
from deeprelax.pde.potentials import Potential

# Part of the monotone limit that is used; the slopes at the ends may grow a little.
SAFETY = 0.8
MIN_POINTS = 5


def solve_viscous(potential: Potential, *, gamma: float, beta: float, grid: Grid) -> Tensor:
    """Return u(., gamma) on the nodes of a 1-d grid, shape (points,).

    Trust the middle of the grid: the ends carry an extrapolation. The method's order in the spacing is 1.

    Args:
        potential: f, of dimension 1, confining at both ends of the grid.
        gamma: final time, > 0.
        beta: inverse temperature, > 0; ``inf`` = no viscosity (compare with Hopf-Lax).
        grid: of dimension 1, at least 5 points.

    Raises:
        ConfigError: a value is out of range, or f falls towards an end of the grid.
    """
    if not gamma > 0 or not beta > 0:
        raise ConfigError(f"Invalid gamma={gamma}, beta={beta}. Must be > 0.")
    if potential.dimension != 1 or grid.dimension != 1 or grid.points < MIN_POINTS:
        raise ConfigError(
            f"Invalid {grid} for {potential.name}. Must both be of dimension 1, with {MIN_POINTS} points or more."
        )
    u = potential(grid.nodes())
    slopes = torch.diff(u) / grid.spacing
    if slopes[0] > 0 or slopes[-1] < 0:
        raise ConfigError(f"Invalid {grid}: {potential.name} falls towards an end. Must rise at both: widen the grid.")
    viscosity = 1 / (2 * beta)
    limit = 1 / (2 * viscosity / grid.spacing**2 + float(slopes.abs().max()) / grid.spacing)
    steps = math.ceil(gamma / (SAFETY * limit))
    for _ in range(steps):
        u = u + gamma / steps * _rate(u, grid.spacing, viscosity)
    return u


def _rate(u: Tensor, spacing: float, viscosity: float) -> Tensor:
    # The ghost node continues the last second difference: g = 3 u0 - 3 u1 + u2.
    left = 3 * u[:1] - 3 * u[1:2] + u[2:3]
    right = 3 * u[-1:] - 3 * u[-2:-1] + u[-3:-2]
    slopes = torch.diff(torch.cat([left, u, right])) / spacing
    incoming = torch.maximum(slopes[:-1].clamp(min=0), (-slopes[1:]).clamp(min=0))
    return viscosity * torch.diff(slopes) / spacing - incoming.square() / 2
