"""beta = infinity: the Hopf-Lax formula and the proximal point.

Equations::

    u(x, gamma) = min_y f(y) + |x - y|^2 / (2 gamma)     solves  u_t + |grad u|^2 / 2 = 0,  u(., 0) = f
    prox(x)     = the minimizer y;   grad u = (x - prox(x)) / gamma = grad f(prox(x))   where it is unique

Reference: Chaudhari et al. 2017 (arXiv 1704.04932) section 3.2; Evans, Partial Differential Equations, section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.grid import Grid
from deeprelax.pde.potentials import Potential

# Each zoom shrinks the bracket by ZOOM_POINTS / 2; eight of them reach the square root of the machine precision.
ZOOM_POINTS = 16
ZOOMS = 8
SEARCH_LIMIT = 12


@dataclass(frozen=True, kw_only=True)
class HopfLax:
    """The non-viscous solution, by search on a grid and zooming into the best cell.

    Where two minimizers tie within ``(sup f'' + 1/gamma) spacing^2 / 8`` the search may pick either, and the value is
    wrong by at most that; elsewhere the value is exact to 1e-14 and the minimizer to about 1e-8.

    Args:
        potential: f, of dimension 1 or 2.
        gamma: smoothing time, > 0.
        grid: where minimizers are searched; its spacing must separate the basins of f.

    Raises:
        ConfigError: ``gamma`` is not positive or the dimensions differ.
    """

    potential: Potential
    gamma: float
    grid: Grid

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise ConfigError(f"Invalid gamma={self.gamma}. Must be > 0 and finite.")
        if self.grid.dimension != self.potential.dimension:
            raise ConfigError(
                f"Invalid grid.dimension={self.grid.dimension}. Must be {self.potential.dimension}, as of f."
            )

    def prox(self, x: Tensor) -> Tensor:
        """Return a minimizer of f(y) + |x - y|^2 / (2 gamma), shape (..., d), for x of shape (..., d).

        Raises:
            ConfigError: a minimizer lies on the boundary of the grid; the message names the extent to use.
        """
        points = x.reshape(-1, self.grid.dimension)
        best = self._search(points, self.grid)
        if bool(self._on_boundary(best, self.grid).any()):
            raise ConfigError(self._too_small(points))
        half_width = self.grid.spacing
        stencil = Grid(low=-1.0, high=1.0, points=ZOOM_POINTS + 1, dimension=self.grid.dimension).nodes()
        for _ in range(ZOOMS):
            candidates = best.unsqueeze(1) + half_width * stencil
            index = self._energy(points.unsqueeze(1), candidates).argmin(-1)
            best = candidates[torch.arange(len(points)), index]
            half_width *= 2 / ZOOM_POINTS
        return best.reshape(x.shape)

    def value(self, x: Tensor) -> Tensor:
        """Return u(x, gamma), shape (...). Raises as :meth:`prox`."""
        return self._energy(x, self.prox(x))

    def gradient(self, x: Tensor) -> Tensor:
        """Return grad u = (x - prox(x)) / gamma, shape (..., d). Raises as :meth:`prox`."""
        return (x - self.prox(x)) / self.gamma

    def _energy(self, x: Tensor, y: Tensor) -> Tensor:
        return self.potential(y) + (x - y).square().sum(-1) / (2 * self.gamma)

    def _search(self, points: Tensor, grid: Grid) -> Tensor:
        nodes = grid.nodes()
        return nodes[self._energy(points.unsqueeze(1), nodes).argmin(-1)]

    def _on_boundary(self, points: Tensor, grid: Grid) -> Tensor:
        inner = grid.spacing / 2
        return ((points < grid.low + inner) | (points > grid.high - inner)).any(-1)

    def _too_small(self, points: Tensor) -> str:
        grid = self.grid
        for _ in range(SEARCH_LIMIT):
            grid = grid.doubled()
            if not bool(self._on_boundary(self._search(points, grid), grid).any()):
                wide = Grid.covering(grid.low, grid.high, self.grid.spacing, dimension=grid.dimension)
                return (
                    f"Invalid {self.grid}: a minimizer of {self.potential.name} + |x-y|^2 / (2 gamma) at gamma="
                    f"{self.gamma:.3g} lies outside. Must reach from {wide.low:.4g} to {wide.high:.4g}: use {wide}."
                )
        return (
            f"Invalid gamma={self.gamma}: {self.potential.name} + |x-y|^2 / (2 gamma) falls as far as {grid.high:.3g}. "
            "It must be bounded below: choose gamma below 1/c for a loss of curvature >= -c."
        )
