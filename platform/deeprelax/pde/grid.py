"""A uniform grid on a cube: where quadratures sum and finite-difference solvers live."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError

MIN_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Equally spaced nodes on the cube ``[low, high]^dimension``.

    Args:
        low: lower end of every axis.
        high: upper end of every axis, > ``low``.
        points: nodes an axis, >= 3; the grid has ``points ** dimension`` nodes.
        dimension: 1 or 2.

    Raises:
        ConfigError: a value is out of range.
    """

    low: float
    high: float
    points: int
    dimension: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"Invalid low={self.low}, high={self.high}. Must be finite with low < high.")
        if self.points < MIN_POINTS:
            raise ConfigError(f"Invalid points={self.points}. Must be >= {MIN_POINTS}.")
        if self.dimension not in (1, 2):
            raise ConfigError(
                f"Invalid dimension={self.dimension}. Must be 1 or 2: a grid grows exponentially with it."
            )

    @classmethod
    def covering(cls, low: float, high: float, spacing: float, *, dimension: int = 1) -> Grid:
        """Return the coarsest grid on ``[low, high]`` whose spacing is at most ``spacing``.

        Raises:
            ConfigError: ``spacing`` is not positive.
        """
        if not spacing > 0:
            raise ConfigError(f"Invalid spacing={spacing}. Must be > 0.")
        # The tolerance keeps (high - low) / spacing = 100.00000000000001 from costing a cell.
        cells = max(math.ceil((high - low) / spacing * (1 - 1e-12)), MIN_POINTS - 1)
        return cls(low=low, high=high, points=cells + 1, dimension=dimension)

    @property
    def spacing(self) -> float:
        """Distance between neighbours on an axis."""
        return (self.high - self.low) / (self.points - 1)

    @property
    def cell(self) -> float:
        """Volume that one node stands for."""
        return self.spacing**self.dimension

    def axis(self) -> Tensor:
        """Return the nodes of one axis, shape (points,)."""
        return torch.linspace(self.low, self.high, self.points, dtype=torch.float64)

    def nodes(self, *, offset: float = 0.0) -> Tensor:
        """Return all nodes, shape (points ** dimension, dimension), each axis moved by ``offset`` spacings."""
        axis = self.axis() + offset * self.spacing
        return torch.cartesian_prod(*[axis] * self.dimension).reshape(-1, self.dimension)

    def doubled(self) -> Grid:
        """Return the grid of twice the extent and the same number of nodes (so twice the spacing)."""
        half = (self.high - self.low) / 2
        return Grid(low=self.low - half, high=self.high + half, points=self.points, dimension=self.dimension)

    def refined(self) -> Grid:
        """Return the grid of the same extent and half the spacing."""
        return Grid(low=self.low, high=self.high, points=2 * self.points - 1, dimension=self.dimension)

    def contains(self, points: Tensor) -> Tensor:
        """Return which of ``points``, shape (..., dimension), lie in the cube: bool, shape (...)."""
        return ((points >= self.low) & (points <= self.high)).all(-1)
