"""beta -> 0 at fixed gamma/beta: plain Gaussian smoothing, the heat equation.

Equations, with xi ~ N(0, variance I) and variance = gamma/beta::

    u(x) = E f(x + xi)      grad u(x) = E grad f(x + xi)

The expectations are Gauss-Hermite sums, exact for polynomials of degree below ``2 * order``.

Reference: Chaudhari et al. 2017 (arXiv 1704.04932) section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.potentials import Potential

AGREEMENT = 1e-9
MAX_ORDER = 180
MAX_DIMENSION = 2


@dataclass(frozen=True, kw_only=True)
class HeatSmoothing:
    """E f(x + xi) and its gradient.

    Args:
        potential: f, of dimension 1 or 2.
        variance: gamma/beta, the variance of xi on each axis, > 0.
        order: Gauss-Hermite nodes an axis, 2 to 180.

    Raises:
        ConfigError: a value is out of range.
    """

    potential: Potential
    variance: float
    order: int = 64

    def __post_init__(self) -> None:
        if not (math.isfinite(self.variance) and self.variance > 0):
            raise ConfigError(f"Invalid variance={self.variance}. Must be > 0 and finite: gamma / beta.")
        if not 2 <= self.order <= MAX_ORDER:
            raise ConfigError(f"Invalid order={self.order}. Must be from 2 to {MAX_ORDER}.")
        if self.potential.dimension > MAX_DIMENSION:
            raise ConfigError(f"Invalid dimension={self.potential.dimension} of the potential. Must be 1 or 2.")

    def value(self, x: Tensor) -> Tensor:
        """Return E f(x + xi), shape (...), for x of shape (..., d).

        Raises:
            ConfigError: ``order`` nodes are too few for this potential and variance; the message names an order.
        """
        return self._checked(self.potential, x)

    def gradient(self, x: Tensor) -> Tensor:
        """Return E grad f(x + xi), shape (..., d). Raises as :meth:`value`."""
        return self._checked(self.potential.gradient, x)

    def _checked(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not self._converged(function, x, self.order):
            raise ConfigError(self._too_few(function, x))
        return self._smooth(function, x, self.order)

    def _converged(self, function: Callable[[Tensor], Tensor], x: Tensor, order: int) -> bool:
        # Two smaller rules, because one can agree by chance.
        average = self._smooth(function, x, order)
        smaller = (self._smooth(function, x, fewer) for fewer in (order - 1, 3 * order // 4))
        return all(bool(((average - other).abs() <= AGREEMENT * (1 + average.abs())).all()) for other in smaller)

    def _smooth(self, function: Callable[[Tensor], Tensor], x: Tensor, order: int) -> Tensor:
        shifts, weights = self._rule(order)
        moved = function(x + shifts.reshape(-1, *[1] * (x.dim() - 1), x.shape[-1]))
        return torch.einsum("k,k...->...", weights, moved)

    def _rule(self, order: int) -> tuple[Tensor, Tensor]:
        """Return nodes, shape (K, d), and weights, shape (K,), of the expectation over xi."""
        nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(order))
        dimension = self.potential.dimension
        shifts = math.sqrt(self.variance) * torch.cartesian_prod(*[nodes] * dimension).reshape(-1, dimension)
        products = torch.cartesian_prod(*[weights / weights.sum()] * dimension).reshape(-1, dimension)
        return shifts, products.prod(-1)

    def _too_few(self, function: Callable[[Tensor], Tensor], x: Tensor) -> str:
        for order in range(self.order + 2, MAX_ORDER + 1, 2):
            if self._converged(function, x, order):
                return f"Invalid order={self.order}: too few nodes to smooth {self.potential.name}. Use order={order}."
        return (
            f"Invalid variance={self.variance}: {self.potential.name} varies too fast for {MAX_ORDER} Gauss-Hermite "
            "nodes. Must be smaller: lower gamma / beta."
        )
