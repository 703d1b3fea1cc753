"""The local entropy by Cole-Hopf quadrature: exact in 1-d and 2-d, refused where the grid cannot carry it.

Equations, with the heat kernel G = N(0, (gamma/beta) I) and ``beta`` the inverse temperature of the Gibbs measure::

    u(x, gamma) = -1/beta log E exp(-beta f(x + xi)),  xi ~ G       solves  u_t + |grad u|^2 / 2 = lap u / (2 beta)
    p(y | x)   ~  exp(-beta f(y) - beta |x - y|^2 / (2 gamma))      the Gibbs measure; < . > is its mean
    grad u     =  (x - <y>) / gamma  =  <grad f(y)>
    D^2 u      =  I / gamma - (beta / gamma^2) Cov(y)

A stochastic process that is to sample p needs noise sqrt(2/beta) dW; the SDE of SGD with sqrt(1/beta) dW has the law
exp(-2 beta f) instead (see :mod:`deeprelax.pde.sde`).

The sum over a uniform grid converges exponentially fast once the spacing resolves the integrand. Two things can go
wrong, both are measured at every call and end in a ``ConfigError`` that names a grid that works: mass outside the grid
(the integrand is looked at on twice the extent) and too wide a spacing (a grid moved by a fraction of a cell must give
the same integral).

References: Chaudhari, Oberman, Osher, Soatto, Carlier 2017 (arXiv 1704.04932) sections 2-3; Hopf 1950, Cole 1951.

Shapes: d = dimension, G = nodes of the grid, B = all leading axes of x flattened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.grid import Grid
from deeprelax.pde.potentials import Potential

# Not a simple fraction, so that a wave with the period of the grid cannot look the same on both grids.
SHIFT = 0.381966
RESOLUTION_TOLERANCE = 1e-9
TAIL_TOLERANCE = 1e-12
SEARCH_LIMIT = 12


@dataclass(frozen=True, kw_only=True)
class LocalEntropy:
    """u(., gamma) of a potential and its first two derivatives.

    Args:
        potential: f, of dimension 1 or 2.
        gamma: smoothing time, > 0.
        beta: inverse temperature of the Gibbs measure, > 0, finite (see :class:`~deeprelax.pde.hopf_lax.HopfLax` for
            infinity and :class:`~deeprelax.pde.heat.HeatSmoothing` for 0).
        grid: nodes of the quadrature; must hold the mass of p(y | x) and resolve sqrt(gamma / beta).

    Raises:
        ConfigError: a value is out of range, the dimensions differ, or the spacing exceeds sqrt(gamma / beta) / 2.

    Example:
        >>> from deeprelax.pde import F2
        >>> entropy = LocalEntropy(potential=F2, gamma=1.0, beta=1.0, grid=Grid(low=-4, high=4, points=401))
        >>> round(entropy.mean(torch.tensor([0.3], dtype=torch.float64)).item(), 3)
        0.195
    """

    potential: Potential
    gamma: float
    beta: float
    grid: Grid

    def __post_init__(self) -> None:
        for name, value in (("gamma", self.gamma), ("beta", self.beta)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"Invalid {name}={value}. Must be > 0 and finite.")
        if self.grid.dimension != self.potential.dimension:
            raise ConfigError(
                f"Invalid grid.dimension={self.grid.dimension}. Must be {self.potential.dimension}, as of f."
            )
        widest = math.sqrt(self.gamma / self.beta) / 2
        if self.grid.spacing > widest * (1 + 1e-9):
            raise ConfigError(self._too_wide(widest))

    def value(self, x: Tensor) -> Tensor:
        """Return u(x, gamma), shape (...), for x of shape (..., d).

        Raises:
            ConfigError: the grid misses mass or resolution at one of the x; the message names the grid to use.
        """
        log_mass, _ = self._gibbs(x)
        return (-log_mass / self.beta).reshape(x.shape[:-1])

    def mean(self, x: Tensor) -> Tensor:
        """Return <y>, the mean of the Gibbs measure at x, shape (..., d). Raises as :meth:`value`."""
        _, weights = self._gibbs(x)
        return (weights @ self._nodes).reshape(x.shape)

    def gradient(self, x: Tensor) -> Tensor:
        """Return grad u = (x - <y>) / gamma, shape (..., d). Raises as :meth:`value`."""
        return (x - self.mean(x)) / self.gamma

    def mean_gradient(self, x: Tensor) -> Tensor:
        """Return <grad f(y)>, equal to :meth:`gradient` by partial integration, shape (..., d)."""
        _, weights = self._gibbs(x)
        return (weights @ self.potential.gradient(self._nodes)).reshape(x.shape)

    def hessian(self, x: Tensor) -> Tensor:
        """Return D^2 u = I/gamma - (beta/gamma^2) Cov(y), shape (..., d, d). Raises as :meth:`value`."""
        _, weights = self._gibbs(x)
        dimension = self.grid.dimension
        centered = self._nodes - (weights @ self._nodes).unsqueeze(1)
        covariance = torch.einsum("bg,bgi,bgj->bij", weights, centered, centered)
        identity = torch.eye(dimension, dtype=torch.float64)
        hessian = identity / self.gamma - self.beta / self.gamma**2 * covariance
        return hessian.reshape(*x.shape, dimension)

    def sample(self, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` independent y from the Gibbs measure at one x of shape (d,): shape (count, d).

        The law is exact up to the square of the spacing: a node is drawn, then a place in its cell.
        """
        _, weights = self._gibbs(x)
        index = torch.multinomial(weights[0], count, replacement=True, generator=generator)
        jitter = torch.rand(count, self.grid.dimension, generator=generator, dtype=torch.float64) - 0.5
        return self._nodes[index] + self.grid.spacing * jitter

    @cached_property
    def _nodes(self) -> Tensor:
        return self.grid.nodes()

    def _gibbs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log E exp(-beta f(x + xi)), shape (B,), and the normalized weights of the nodes, shape (B, G)."""
        points = x.reshape(-1, self.grid.dimension)
        log_weights = self._log_weights(points, self._nodes, self.grid.cell)
        log_mass = torch.logsumexp(log_weights, -1)
        if bool((self._log_mass_outside(points, self.grid) - log_mass > math.log(TAIL_TOLERANCE)).any()):
            raise ConfigError(self._cut_tails(points))
        if not self._resolved(points, self.grid, log_mass):
            raise ConfigError(self._too_wide(self._resolving_spacing(points)))
        return log_mass, torch.exp(log_weights - log_mass.unsqueeze(-1))

    def _log_weights(self, points: Tensor, nodes: Tensor, cell: float) -> Tensor:
        # Axis by axis: a sum over a last axis of length 1 or 2 takes longer than all the rest.
        squares = torch.zeros((), dtype=torch.float64)
        for point, node in zip(points.T, nodes.T, strict=True):
            squares = squares + (point.unsqueeze(-1) - node).square()
        dimension = self.grid.dimension
        log_kernel = math.log(cell) - dimension / 2 * math.log(2 * math.pi * self.gamma / self.beta)
        return log_kernel - self.beta * (self.potential(nodes) + squares / (2 * self.gamma))

    def _log_mass_outside(self, points: Tensor, grid: Grid) -> Tensor:
        around = grid.doubled()
        nodes = around.nodes()
        outside = nodes[~grid.contains(nodes)]
        return torch.logsumexp(self._log_weights(points, outside, around.cell), -1)

    def _resolved(self, points: Tensor, grid: Grid, log_mass: Tensor) -> bool:
        moved = torch.logsumexp(self._log_weights(points, grid.nodes(offset=SHIFT), grid.cell), -1)
        return bool(((moved - log_mass).abs() < RESOLUTION_TOLERANCE * (1 + log_mass.abs())).all())

    def _resolving_spacing(self, points: Tensor) -> float:
        grid = self.grid
        for _ in range(SEARCH_LIMIT):
            grid = grid.refined()
            log_mass = torch.logsumexp(self._log_weights(points, grid.nodes(), grid.cell), -1)
            if self._resolved(points, grid, log_mass):
                break
        return grid.spacing

    def _too_wide(self, spacing: float) -> str:
        grid = Grid.covering(self.grid.low, self.grid.high, spacing, dimension=self.grid.dimension)
        return (
            f"Invalid {self.grid}: its spacing {self.grid.spacing:.3g} does not resolve the Gibbs measure of "
            f"{self.potential.name} at gamma={self.gamma:.3g}, beta={self.beta:.3g} (kernel width sqrt(gamma/beta) = "
            f"{math.sqrt(self.gamma / self.beta):.3g}). Spacing must be <= {spacing:.3g}: use {grid}."
        )

    def _cut_tails(self, points: Tensor) -> str:
        grid = self.grid
        for _ in range(SEARCH_LIMIT):
            grid = grid.doubled()
            inside = torch.logsumexp(self._log_weights(points, grid.nodes(), grid.cell), -1)
            if bool((self._log_mass_outside(points, grid) - inside < math.log(TAIL_TOLERANCE)).all()):
                wide = Grid.covering(grid.low, grid.high, self.grid.spacing, dimension=grid.dimension)
                return (
                    f"Invalid {self.grid}: the Gibbs measure of {self.potential.name} at gamma={self.gamma:.3g}, beta="
                    f"{self.beta:.3g} has mass outside. Must reach from {wide.low:.4g} to {wide.high:.4g}: use {wide}."
                )
        return (
            f"Invalid gamma={self.gamma}: the Gibbs measure of {self.potential.name} has mass beyond {grid.high:.3g}."
            " f(y) + |x-y|^2 / (2 gamma) must rise at infinity: use gamma below 1/c where the curvature of f is >= -c."
        )
