"""The auxiliary Fokker-Planck equation: how fast the inner chain forgets its start.

For ``dy = -grad_y H(y; x) dt + sqrt(2/beta) dW``, H = f(y) + |x - y|^2 / (2 gamma), with D^2 f >= -c::

    lambda = 1/gamma - c > 0   implies   W2(p_t, p)   <= exp(-lambda t)   W2(p_0, p)
                                         KL(p_t | p) <= exp(-2 lambda t) KL(p_0 | p)

and two chains driven by the same noise come closer at least at rate lambda on *every* path, the proof of the first (see
:meth:`InnerChain.coupled_distances <deeprelax.pde.inner_chain.InnerChain.coupled_distances>`). With lambda < 0 there is
no such guarantee.

Reference: Chaudhari et al. 2017 (arXiv 1704.04932) lemma 3; Bakry and Emery 1985.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.generator import birth_death_generator, transition_matrix
from deeprelax.pde.grid import Grid
from deeprelax.pde.potentials import Potential

QUANTILES = 4000


def contraction_rate(potential: Potential, gamma: float) -> float:
    """Return lambda = 1/gamma - c, with -c the infimum of the curvature of f; negative = no guarantee."""
    return 1 / gamma + potential.curvature[0]


@dataclass(frozen=True, kw_only=True)
class AuxiliaryFokkerPlanck:
    """The law of the inner process on a 1-d grid, exact in time.

    Args:
        potential: f, of dimension 1.
        x: the anchor.
        gamma: smoothing time, > 0.
        beta: inverse temperature, > 0.
        grid: of dimension 1; holds the laws.

    Raises:
        ConfigError: a value is not positive or the grid is too wide for the slope of H.
    """

    potential: Potential
    x: float
    gamma: float
    beta: float
    grid: Grid

    def __post_init__(self) -> None:
        if not min(self.gamma, self.beta) > 0:
            raise ConfigError(f"Invalid gamma={self.gamma}, beta={self.beta}. Must be > 0.")
        if self.potential.dimension != 1 or self.grid.dimension != 1:
            raise ConfigError(
                f"Invalid dimension={self.potential.dimension}. Must be 1 for the potential and the grid."
            )

    def invariant(self) -> Tensor:
        """Return the probabilities exp(-beta H) of the nodes, shape (points,)."""
        return torch.softmax(-self.beta * self._energy, -1)

    def laws(self, start: Tensor, *, dt: float, steps: int) -> Tensor:
        """Return the probabilities of the nodes at 0, dt, ..., steps dt: shape (steps + 1, points).

        Args:
            start: probabilities at time 0, shape (points,).
            dt: time between two rows.
            steps: number of rows after the first.
        """
        move = transition_matrix(self._generator, dt)
        laws = [start]
        for _ in range(steps):
            laws.append(laws[-1] @ move)
        return torch.stack(laws)

    def relative_entropy(self, laws: Tensor) -> Tensor:
        """Return KL(law | invariant), shape (...), for laws of shape (..., points)."""
        log_invariant = torch.log_softmax(-self.beta * self._energy, -1)
        return torch.sum(torch.xlogy(laws, laws) - laws * log_invariant, -1)

    def wasserstein(self, laws: Tensor) -> Tensor:
        """Return W2(law, invariant), shape (T,), for laws of shape (T, points): the L2 distance of the quantiles."""
        target = _quantiles(self.invariant(), self.grid)
        return torch.stack([(_quantiles(law, self.grid) - target).square().mean().sqrt() for law in laws])

    @cached_property
    def _energy(self) -> Tensor:
        y = self.grid.axis()
        return self.potential(y.unsqueeze(-1)) + (self.x - y).square() / (2 * self.gamma)

    @cached_property
    def _generator(self) -> Tensor:
        return birth_death_generator(self._energy, spacing=self.grid.spacing, diffusion=1 / self.beta)


def _quantiles(law: Tensor, grid: Grid) -> Tensor:
    """Return the quantiles at equally spaced levels, each node's mass spread evenly over its cell."""
    levels = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    above = torch.cumsum(law, 0)
    index = torch.searchsorted(above, levels).clamp(max=len(law) - 1)
    inside = 1 - (above[index] - levels) / law[index]
    return grid.low + (index + inside - 0.5) * grid.spacing
