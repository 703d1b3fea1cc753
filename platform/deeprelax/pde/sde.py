"""The fast-slow process behind the optimizer and its homogenized limit, vectorized over independent paths.

Equations::

    dx = -(x - y)/gamma dt,   dy = -(grad f(y) + (y - x)/gamma)/eps dt + sqrt(2 / (beta eps)) dW
    dX = -grad u(X, gamma) dt            the limit eps -> 0: y sees x standing still and samples its Gibbs measure

Reference: Chaudhari et al. 2017 (arXiv 1704.04932) theorem 1; Pavliotis and Stuart 2008.

Shapes: P paths, d = dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.potentials import Potential


def fast_slow(
    potential: Potential,
    start: Tensor,
    *,
    gamma: float,
    beta: float,
    epsilon: float,
    horizon: float,
    step_size: float,
    generator: torch.Generator,
) -> Tensor:
    """Return x at time ``horizon``, shape (P, d), by Euler-Maruyama.

    Args:
        potential: f.
        start: x and y at time 0, shape (P, d).
        gamma: smoothing time, > 0.
        beta: inverse temperature, > 0.
        epsilon: ratio of the time scales, > 0.
        horizon: final time, > 0.
        step_size: longest step of the slow clock; stable below ``2 epsilon / (sup f'' + 1/gamma)``.
        generator: source of the noise.

    Raises:
        ConfigError: a value is not positive.
    """
    if not min(gamma, beta, epsilon, horizon, step_size) > 0:
        raise ConfigError(f"Invalid {gamma=}, {beta=}, {epsilon=}, {horizon=}, {step_size=}. Must be > 0.")
    steps = math.ceil(horizon / step_size)
    dt = horizon / steps
    scale = math.sqrt(2 * dt / (beta * epsilon))
    x = y = start
    for _ in range(steps):
        spring = (y - x) / gamma
        noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        y = torch.add(y, potential.gradient(y) + spring, alpha=-dt / epsilon).add_(noise, alpha=scale)
        x = torch.add(x, spring, alpha=dt)
    return x


def homogenized(gradient: Callable[[Tensor], Tensor], start: Tensor, *, horizon: float, steps: int) -> Tensor:
    """Return X at time ``horizon`` of dX = -gradient(X) dt, shape (P, d), by the classical Runge-Kutta scheme.

    The method's order in horizon/steps is 4.

    Args:
        gradient: grad u(., gamma), for example :meth:`LocalEntropy.gradient`, from (P, d) to (P, d).
        start: X at time 0, shape (P, d).
        horizon: final time.
        steps: number of steps, >= 1.
    """
    dt = horizon / steps
    x = start
    for _ in range(steps):
        first = gradient(x)
        second = gradient(x - dt / 2 * first)
        third = gradient(x - dt / 2 * second)
        fourth = gradient(x - dt * third)
        x = x - dt / 6 * (first + 2 * second + 2 * third + fourth)
    return x
