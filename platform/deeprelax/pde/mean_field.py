"""Infinitely many coupled replicas: the mean-field (McKean-Vlasov) limit, solved exactly on a grid in 1-d.

Equations, with m = E x the mean of the law itself in place of the mean of n replicas::

    x <- x - lr (f'(x) + s xi) - pull (x - m),   xi ~ N(0, 1)

The law moves by the kernel K_m(x, .) = N(x - lr f'(x) - pull (x - m), (lr s)^2), which depends on the law through m.
The mean of n replicas that start alike is off by O(n^{-1/2}), fluctuation, and O(1/n), bias. The same in continuous
time is the McKean-Vlasov equation dx = -(f'(x) + (x - E x)/rho) dt + sigma dW.

Reference: Sznitman 1991, Topics in propagation of chaos, theorem 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.grid import Grid
from deeprelax.pde.potentials import Potential

TAIL_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class MeanField:
    """The law of one of infinitely many replicas.

    Args:
        potential: f, of dimension 1.
        lr: step, > 0.
        noise: s, standard deviation of the gradient, > 0.
        pull: part of its gap to the mean a replica closes per step.
        grid: of dimension 1; must hold the law and resolve the noise of one step.

    Raises:
        ConfigError: f or the grid is not 1-d, or the spacing exceeds half the noise of one step.
    """

    potential: Potential
    lr: float
    noise: float
    pull: float
    grid: Grid

    def __post_init__(self) -> None:
        if self.potential.dimension != 1 or self.grid.dimension != 1:
            raise ConfigError(f"Invalid dimension={self.potential.dimension}. Must be 1 for potential and grid.")
        widest = self.lr * self.noise / 2
        if not 0 < self.grid.spacing <= widest:
            raise ConfigError(f"Invalid {self.grid}. Spacing must be <= {widest:.3g}, half of lr * noise.")

    def means(self, start: float, steps: int) -> Tensor:
        """Return E x after each of ``steps`` steps, shape (steps,), of replicas that all start at ``start``.

        Raises:
            ConfigError: the law reaches the ends of the grid.
        """
        axis = self.grid.axis()
        point = torch.tensor([start], dtype=torch.float64)
        law = self._moved(point, point)[0]
        means = [law @ axis]
        for _ in range(steps - 1):
            law = law @ self._moved(axis, means[-1])
            means.append(law @ axis)
        if not bool(torch.maximum(law[0], law[-1]) < TAIL_TOLERANCE):
            raise ConfigError(f"Invalid {self.grid}: the law reaches its ends. Use {self.grid.doubled().refined()}.")
        return torch.stack(means)

    def _moved(self, x: Tensor, mean: Tensor) -> Tensor:
        slope = self.potential.gradient(x.unsqueeze(-1)).squeeze(-1)
        goal = x - self.lr * slope - self.pull * (x - mean)
        width = self.lr * self.noise
        return torch.softmax(-(self.grid.axis() - goal.unsqueeze(-1)).square() / (2 * width**2), -1)
