"""Parle, EASGD and EAMSGD on the quadratic h (x - c)^2 / 2 with Gaussian gradient noise, as linear recursions.

Each update below is the textbook line of its method, see algorithms 1 of the references; n replicas, one coordinate.
The gradient is ``h (x - c) + s xi`` with xi standard normal, independent over replicas and steps.

References: Chaudhari et al. 2017 (arXiv 1707.00424) eq. 8; Zhang, Choromanska, LeCun 2015 (arXiv 1412.6651) eq. 5-8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.linear_recursion import LinearRecursion


@dataclass(frozen=True, kw_only=True)
class NoisyQuadratic:
    """The loss: h (x - c)^2 / 2, its gradient seen through noise.

    Args:
        curvature: h.
        minimum: c.
        noise: s, standard deviation of the gradient, >= 0.
    """

    curvature: float
    minimum: float = 0.0
    noise: float = 0.0

    def gradient(self, x: Tensor, noise: Tensor, one: Tensor) -> Tensor:
        """Return the rows of ``h (x - c) + s xi``, given the rows of x, xi and 1."""
        return self.curvature * (x - self.minimum * one) + self.noise * noise


@dataclass(frozen=True, kw_only=True)
class ParleRecursion:
    """Parle (n = 1 with rho = inf: Entropy-SGD without noise of its own) over one period.

    The state is (x^1..x^n, v^1..v^n, w^1..w^n, center): the anchors, the momenta of y and of x, and the mean. At an
    exchange y and z are x, so they are no part of it.

    Args:
        loss: the quadratic.
        replicas: n >= 1.
        period: L >= 1.
        gamma: of the inner spring; ``inf`` = none.
        rho: of the outer spring; ``inf`` = none.
        lr: step of y.
        outer_lr: step of x.
        averaging: weight of the old average, in [0, 1).
        momentum: of y, kept across periods.
        outer_momentum: of x.

    Raises:
        ConfigError: ``replicas`` or ``period`` is below 1.
    """

    loss: NoisyQuadratic
    replicas: int
    period: int
    gamma: float
    rho: float
    lr: float
    outer_lr: float
    averaging: float = 0.0
    momentum: float = 0.0
    outer_momentum: float = 0.0

    def __post_init__(self) -> None:
        if min(self.replicas, self.period) < 1:
            raise ConfigError(f"Invalid replicas={self.replicas}, period={self.period}. Must be >= 1.")

    def start(self, points: Tensor) -> Tensor:
        """Return the state, shape (3n + 1,), of replicas at ``points``, shape (n,), at rest."""
        return torch.cat([points, torch.zeros(2 * self.replicas, dtype=torch.float64), points.mean().reshape(1)])

    def of_period(self) -> LinearRecursion:
        """Return the recursion from one exchange to the next."""
        noises = self.replicas * self.period
        return LinearRecursion.of(self._update, size=3 * self.replicas + 1, noises=noises)

    def of_inner_step(self) -> LinearRecursion:
        """Return the recursion of (y, z, v) of one replica around an anchor that stands at 0."""

        def update(state: Tensor, noise: Tensor, one: Tensor) -> Tensor:
            y, z, v = state
            return torch.stack(self._local(torch.zeros_like(one), y, z, v, noise[0], one))

        return LinearRecursion.of(update, size=3, noises=1)

    def _update(self, state: Tensor, noise: Tensor, one: Tensor) -> Tensor:
        x, v, w = state[:-1].chunk(3)
        center, y, z = state[-1], x, x
        for step in noise.chunk(self.period):
            y, z, v = self._local(x, y, z, v, step, one)
        force = (x - z) + (x - center) / self.rho
        w = self.outer_momentum * w + force
        x = x - self.outer_lr * (force + self.outer_momentum * w)
        return torch.cat([x, v, w, x.mean(0, keepdim=True)])

    def _local(
        self, x: Tensor, y: Tensor, z: Tensor, v: Tensor, noise: Tensor, one: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        force = self.loss.gradient(y, noise, one) + (y - x) / self.gamma
        v = self.momentum * v + force
        y = y - self.lr * (force + self.momentum * v)
        return y, self.averaging * z + (1 - self.averaging) * y, v


@dataclass(frozen=True, kw_only=True)
class EasgdRecursion:
    """Synchronous EASGD, with momentum EAMSGD, over one period.

    The state is (x^1..x^n, v^1..v^n, center).

    Args:
        loss: the quadratic.
        replicas: n >= 1.
        period: tau >= 1; the last of its steps is the elastic one.
        lr: step of x.
        elasticity: n alpha_e.
        momentum: delta.

    Raises:
        ConfigError: ``replicas`` or ``period`` is below 1.
    """

    loss: NoisyQuadratic
    replicas: int
    period: int
    lr: float
    elasticity: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if min(self.replicas, self.period) < 1:
            raise ConfigError(f"Invalid replicas={self.replicas}, period={self.period}. Must be >= 1.")

    def start(self, points: Tensor) -> Tensor:
        """Return the state, shape (2n + 1,), of replicas at ``points``, shape (n,), at rest."""
        return torch.cat([points, torch.zeros(self.replicas, dtype=torch.float64), points.mean().reshape(1)])

    def of_period(self) -> LinearRecursion:
        """Return the recursion from one exchange to the next."""
        noises = self.replicas * self.period
        return LinearRecursion.of(self._update, size=2 * self.replicas + 1, noises=noises)

    def _update(self, state: Tensor, noise: Tensor, one: Tensor) -> Tensor:
        x, v = state[:-1].chunk(2)
        center = state[-1]
        elastic = torch.zeros_like(x)
        for step, drawn in enumerate(noise.chunk(self.period), start=1):
            if step == self.period:
                # Replicas and center see each other's values before this step.
                elastic = self.elasticity / self.replicas * (x - center)
            g = self.loss.gradient(x, drawn, one)
            v = self.momentum * v + g
            x = x - self.lr * (g + self.momentum * v)
        return torch.cat([x - elastic, v, (center + elastic.sum(0)).unsqueeze(0)])
