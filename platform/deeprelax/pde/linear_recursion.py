"""Linear recursions with Gaussian noise: what every method is on a quadratic loss, and its exact mean and covariance.

Equations, with the state s and standard normal noise xi of each step::

    s <- A s + b + B xi
    m <- A m + b;   S <- A S A' + Q,  Q = B B'          mean and covariance of the state
    (I - A) m = b;  S = A S A' + Q (Lyapunov)           at rest, if the spectral radius of A is below 1

The matrices are read off the update equations themselves, with no algebra done by hand: every variable is carried as
its row of coefficients in (state, noise, 1), on which the equations of a paper can be written literally.

Shapes: S = length of the state, N = noises a step, C = S + N + 1 coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError

Update = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the rows of the state (S, C), of the noise (N, C) and of the number 1 (C,) to the next state's rows (S, C)."""

# A radius closer to 1 than about 2^-50 is not told apart from 1; that many doublings see the end of all others.
DOUBLINGS = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearRecursion:
    """One step, or one period, of a linear method.

    Args:
        matrix: A, shape (S, S), float64.
        offset: b, shape (S,).
        noise: Q, shape (S, S).
    """

    matrix: Tensor
    offset: Tensor
    noise: Tensor

    @classmethod
    def of(cls, update: Update, *, size: int, noises: int) -> LinearRecursion:
        """Return the recursion that ``update`` makes.

        Args:
            update: the method's equations, linear in state and noise.
            size: S.
            noises: N, independent standard normal numbers a step.
        """
        rows = torch.eye(size + noises + 1, dtype=torch.float64)
        after = update(rows[:size], rows[size:-1], rows[-1])
        entering = after[:, size:-1]
        return cls(matrix=after[:, :size], offset=after[:, -1], noise=entering @ entering.T)

    def then(self, later: LinearRecursion) -> LinearRecursion:
        """Return the recursion that makes this step and then ``later``, whose noise is independent."""
        matrix = later.matrix
        return LinearRecursion(
            matrix=matrix @ self.matrix,
            offset=matrix @ self.offset + later.offset,
            noise=matrix @ self.noise @ matrix.T + later.noise,
        )

    def repeated(self, times: int) -> LinearRecursion:
        """Return ``times`` steps as one, times >= 0."""
        size = len(self.offset)
        zero = torch.zeros(size, dtype=torch.float64)
        whole = LinearRecursion(matrix=torch.eye(size, dtype=torch.float64), offset=zero, noise=torch.diag(zero))
        for _ in range(times):
            whole = whole.then(self)
        return whole

    def moments(self, mean: Tensor, covariance: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean, shape (S,), and covariance, shape (S, S), one step after the given ones; None = 0."""
        carried = torch.zeros_like(self.noise) if covariance is None else covariance
        return self.matrix @ mean + self.offset, self.matrix @ carried @ self.matrix.T + self.noise

    @property
    def spectral_radius(self) -> float:
        """Largest modulus of A's eigenvalues: the factor by which the slowest mode shrinks, or the fastest grows."""
        return float(torch.linalg.eigvals(self.matrix).abs().max())

    def stationary(self) -> tuple[Tensor, Tensor]:
        """Return the mean, shape (S,), and the covariance, shape (S, S), that the recursion comes to rest at.

        Raises:
            ConfigError: it does not: the spectral radius is 1 or more.
        """
        radius = self.spectral_radius
        if not radius < 1:
            raise ConfigError(f"Invalid recursion of spectral radius {radius:.6g}. Must be < 1: lower the step.")
        identity = torch.eye(len(self.offset), dtype=torch.float64)
        mean = torch.linalg.solve(identity - self.matrix, self.offset)
        matrix, covariance = self.matrix, self.noise
        for _ in range(DOUBLINGS):
            # After k rounds this is the sum over the first 2^k steps of A^j Q A'^j.
            covariance = covariance + matrix @ covariance @ matrix.T
            matrix = matrix @ matrix
        return mean, covariance
