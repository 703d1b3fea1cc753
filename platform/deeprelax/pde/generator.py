"""A diffusion on a 1-d grid as a continuous-time Markov chain.

For ``dy = -H'(y) dt + sqrt(2 D) dW`` the rates between neighbours::

    q(i -> i+-1) = D / h^2 exp(-(H(i+-1) - H(i)) / (2 D))

are in detailed balance with exp(-H/D) exactly (not up to h) and approximate the generator to second order in h. The
matrix exponential then moves laws and expectations without any error in time and keeps them positive.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeprelax.errors import ConfigError

# Probability of a jump in one factor of the exponential; its relative error is of this size for the fastest modes only.
LARGEST_JUMP = 2.0**-10
# exp(5) between neighbours: beyond it the grid does not see the slope.
STEEPEST = 5.0


def birth_death_generator(energy: Tensor, *, spacing: float, diffusion: float) -> Tensor:
    """Return the rate matrix Q, shape (points, points), with rows that sum to 0.

    Expectations solve ``v' = Q v``; a law, as a row, solves ``p' = p Q``.

    Args:
        energy: H on the nodes, shape (points,).
        spacing: h > 0.
        diffusion: D > 0; 1/beta for the Gibbs sampler, 1/(2 beta) for the SDE of SGD.

    Raises:
        ConfigError: a value is not positive, or H changes by more than 10 D between neighbours (refine the grid).
    """
    if not spacing > 0 or not diffusion > 0:
        raise ConfigError(f"Invalid spacing={spacing}, diffusion={diffusion}. Must be > 0.")
    slope = torch.diff(energy) / (2 * diffusion)
    steepest = float(slope.abs().max())
    if not steepest <= STEEPEST:
        raise ConfigError(
            f"Invalid spacing={spacing:.3g}: too wide for the slope. Must be <= {spacing * STEEPEST / steepest:.3g}."
        )
    rate = diffusion / spacing**2
    jumps = torch.diag(rate * torch.exp(-slope), 1) + torch.diag(rate * torch.exp(slope), -1)
    return jumps - torch.diag(jumps.sum(-1))


def transition_matrix(generator: Tensor, dt: float) -> Tensor:
    """Return ``exp(dt Q)``, shape (points, points): positive entries, rows that sum to 1.

    The exponential is ``(I + dt Q / n)^n`` with n a power of two so large that no entry of the factor is negative.
    Products of positive matrices do not cancel, so even entries of 1e-100 keep their digits, which log exp(-beta u)
    needs.

    Args:
        generator: Q, see :func:`birth_death_generator`.
        dt: time, > 0.
    """
    fastest = float(-generator.diagonal().min())
    squarings = max(0, math.ceil(math.log2(dt * fastest / LARGEST_JUMP)))
    matrix: Tensor = torch.eye(len(generator), dtype=torch.float64) + dt / 2**squarings * generator
    for _ in range(squarings):
        matrix = matrix @ matrix
        matrix = matrix / matrix.sum(-1, keepdim=True)
    return matrix
