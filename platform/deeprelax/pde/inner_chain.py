"""The inner chain of Entropy-SGD and Parle in its plainest form: stochastic gradient Langevin dynamics (SGLD).

Equation, with the energy H(y; x) = f(y) + |x - y|^2 / (2 gamma)::

    y <- y - lr grad_y H(y; x) + sqrt(2 lr / beta) N(0, I)          its law tends to exp(-beta H) as lr -> 0

Factor 2: the SDE of SGD is written with noise sqrt(1/beta) dW and has the law exp(-2 beta f); a sampler of exp(-beta H)
needs sqrt(2/beta) dW. ``noise_factor`` is that 2, and only a check that wants the wrong law sets it to 1.

Reference: Chaudhari et al. 2017 (arXiv 1704.04932) section 2.3; Welling and Teh 2011.

Shapes: P paths, d = dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.potentials import Potential


@dataclass(frozen=True, kw_only=True, eq=False)
class InnerChain:
    """The chain around one anchor, run over many independent paths at once.

    Args:
        potential: f.
        x: the anchor, shape (d,).
        gamma: smoothing time, > 0.
        beta: inverse temperature of the Gibbs measure, > 0; ``inf`` = no noise.
        inner_lr: step of y, > 0; the bias of the law is of first order in it.
        noise_factor: the 2 of sqrt(2 lr / beta).

    Raises:
        ConfigError: a value is not positive, or x is not a point of the potential.
    """

    potential: Potential
    x: Tensor
    gamma: float
    beta: float
    inner_lr: float
    noise_factor: float = 2.0

    def __post_init__(self) -> None:
        for name in ("gamma", "beta", "inner_lr", "noise_factor"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"Invalid {name}={getattr(self, name)}. Must be > 0.")
        if self.x.shape != (self.potential.dimension,):
            raise ConfigError(f"Invalid x of shape {tuple(self.x.shape)}. Must be ({self.potential.dimension},).")

    @property
    def noise(self) -> float:
        """Standard deviation of the noise of one step."""
        return math.sqrt(self.noise_factor * self.inner_lr / self.beta)

    def drift(self, y: Tensor) -> Tensor:
        """Return where y goes without noise, shape (..., d)."""
        return y - self.inner_lr * (self.potential.gradient(y) + (y - self.x) / self.gamma)

    def path(self, *, steps: int, paths: int, generator: torch.Generator, start: Tensor | None = None) -> Tensor:
        """Return y after each step, shape (steps, P, d).

        Args:
            steps: number of steps, >= 1.
            paths: P.
            generator: source of the noise.
            start: y before the first step, shape (P, d); None = x.
        """
        y = self.x.expand(paths, -1) if start is None else start
        chain = torch.empty(steps, *y.shape, dtype=torch.float64)
        for step in range(steps):
            y = self.drift(y) + self.noise * torch.randn(y.shape, generator=generator, dtype=torch.float64)
            chain[step] = y
        return chain

    def coupled_distances(self, first: Tensor, second: Tensor, *, steps: int, generator: torch.Generator) -> Tensor:
        """Return |y - y'| of pairs of paths that share their noise, shape (steps + 1, P).

        The pairs contract at the rate of the potential only while ``inner_lr (sup f'' + 1/gamma) < 1`` where they go.

        Args:
            first: start of y, shape (P, d).
            second: start of y', shape (P, d).
            steps: number of steps.
            generator: source of the noise.
        """
        distances = [(first - second).norm(dim=-1)]
        for _ in range(steps):
            noise = self.noise * torch.randn(first.shape, generator=generator, dtype=torch.float64)
            first, second = self.drift(first) + noise, self.drift(second) + noise
            distances.append((first - second).norm(dim=-1))
        return torch.stack(distances)
