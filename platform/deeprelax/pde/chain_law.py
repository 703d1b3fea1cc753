"""The exact law of the discretized inner chain in 1-d: what a sampler with *this* step must converge to.

A sampler with step lr is biased by O(lr). Comparing it with the quadrature alone mixes that bias with its mistakes;
here the Euler-Maruyama chain itself is solved, as a Markov kernel on a grid::

    K(y, y') = N(y'; y - lr (f'(y) + (y - x)/gamma), 2 lr / beta)

so that a stochastic estimate of any length can be held against its own expectation, without Monte-Carlo error on the
reference side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.grid import Grid
from deeprelax.pde.inner_chain import InnerChain

TAIL_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True, eq=False)
class ChainLaw:
    """The law of y_k on a grid.

    Args:
        chain: in 1-d, with beta < infinity.
        grid: of dimension 1; must hold the chain and resolve the noise of one step.

    Raises:
        ConfigError: the chain or the grid is not 1-d, or the spacing exceeds half the noise of one step.
    """

    chain: InnerChain
    grid: Grid

    def __post_init__(self) -> None:
        if self.chain.potential.dimension != 1 or self.grid.dimension != 1:
            raise ConfigError(f"Invalid dimension={self.chain.potential.dimension}. Must be 1 for chain and grid.")
        if not self.chain.noise > 0:
            raise ConfigError(f"Invalid beta={self.chain.beta}. Must be finite: a chain without noise has no density.")
        widest = self.chain.noise / 2
        if self.grid.spacing > widest:
            grid = Grid.covering(self.grid.low, self.grid.high, widest)
            raise ConfigError(f"Invalid {self.grid}. Spacing must be <= {widest:.3g}, half the noise: use {grid}.")

    def means(self, start: float, steps: int) -> Tensor:
        """Return E y_k for k = 1..steps, shape (steps,), of a chain started at ``start``.

        Raises:
            ConfigError: the chain reaches the ends of the grid.
        """
        law = torch.softmax(self._log_step(torch.tensor([start], dtype=torch.float64)), -1)[0]
        means, axis, kernel = torch.empty(steps, dtype=torch.float64), self.grid.axis(), self._kernel.T.contiguous()
        for step in range(steps):
            means[step] = law @ axis
            law = kernel @ law
        self._check_ends(law)
        return means

    def stationary(self) -> Tensor:
        """Return the invariant probabilities of the nodes, shape (points,). Raises as :meth:`means`."""
        # p K = p leaves one equation to spare; in its place stands that the probabilities add up to 1.
        system = torch.eye(self.grid.points, dtype=torch.float64) - self._kernel.T
        system[-1] = 1
        total = torch.zeros(self.grid.points, dtype=torch.float64)
        total[-1] = 1
        law: Tensor = torch.linalg.solve(system, total).clamp(min=0)
        self._check_ends(law)
        return law

    def stationary_mean(self) -> float:
        """Return the mean of the invariant law; its distance to <y> is the bias, of first order in ``inner_lr``."""
        return float(self.stationary() @ self.grid.axis())

    @cached_property
    def _kernel(self) -> Tensor:
        return torch.softmax(self._log_step(self.grid.axis()), -1)

    def _log_step(self, y: Tensor) -> Tensor:
        goal = self.chain.drift(y.unsqueeze(-1))
        return -(self.grid.axis() - goal).square() / (2 * self.chain.noise**2)

    def _check_ends(self, law: Tensor) -> None:
        if not bool(torch.maximum(law[0], law[-1]) < TAIL_TOLERANCE):
            raise ConfigError(
                f"Invalid {self.grid}: the chain reaches its ends. Use {self.grid.doubled().refined()}, or lower "
                f"inner_lr={self.chain.inner_lr:.3g}: the chain escapes where inner_lr (f'' + 1/gamma) > 2."
            )
