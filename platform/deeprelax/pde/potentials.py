"""Low-dimensional losses whose local entropy is known: what the theory is tested on.

``F1`` and ``F2`` are the two named potentials of the checks; :func:`random_potential` draws a new one from a seed.

Shapes: d = dimension; a point is the last axis of a tensor (..., d), all float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Potential:
    """A smooth loss f on R^d with what is known about it.

    Args:
        name: shown in tables and figures.
        dimension: d >= 1.
        value: f, from (..., d) to (...).
        slope: closed form of grad f, from (..., d) to (..., d); None = autograd of ``value``.
        minima: the known global minimizers, each a point of d numbers; empty = unknown.
        curvature: (infimum, supremum) of the eigenvalues of D^2 f over R^d; infinite = unbounded or unknown.

    Raises:
        ConfigError: ``dimension`` is below 1 or ``minima`` or ``curvature`` do not fit.
    """

    name: str
    dimension: int
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor] | None = None
    minima: tuple[tuple[float, ...], ...] = ()
    curvature: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ConfigError(f"Invalid dimension={self.dimension}. Must be >= 1.")
        if any(len(point) != self.dimension for point in self.minima):
            raise ConfigError(f"Invalid minima={self.minima}. Each must have {self.dimension} numbers.")
        if self.curvature[0] > self.curvature[1]:
            raise ConfigError(f"Invalid curvature={self.curvature}. Must be (infimum, supremum).")

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), shape (...), for x of shape (..., d)."""
        return self.value(x)

    def gradient(self, x: Tensor) -> Tensor:
        """Return grad f(x), shape (..., d), for x of shape (..., d)."""
        if self.slope is not None:
            return self.slope(x)
        leaf = x.detach().requires_grad_(True)
        with torch.enable_grad():
            total = self.value(leaf).sum()
        return torch.autograd.grad(total, leaf)[0]


def _f1(x: Tensor) -> Tensor:
    return (x.square() + 1.5 * torch.sin(2 * math.pi * x)).sum(-1)


def _f1_slope(x: Tensor) -> Tensor:
    return 2 * x + 3 * math.pi * torch.cos(2 * math.pi * x)


def _f2(x: Tensor) -> Tensor:
    return (x.square() - 1).square().sum(-1)


def _f2_slope(x: Tensor) -> Tensor:
    return 4 * x * (x.square() - 1)


F1 = Potential(
    name="F1",
    dimension=1,
    value=_f1,
    slope=_f1_slope,
    minima=((-0.24182894588827972,),),
    curvature=(2 - 6 * math.pi**2, 2 + 6 * math.pi**2),
)
"""y^2 + 1.5 sin(2 pi y): many local minima in a convex bowl."""

F2 = Potential(name="F2", dimension=1, value=_f2, slope=_f2_slope, minima=((-1.0,), (1.0,)), curvature=(-4.0, math.inf))
"""(y^2 - 1)^2: two equal wells; its curvature is at least -4."""


def quadratic(matrix: Tensor, *, center: Tensor | None = None) -> Potential:
    """Return ``0.5 (y - c)' A (y - c)``.

    Args:
        matrix: A, symmetric, shape (d, d), float64. Not necessarily positive.
        center: c, shape (d,); None = 0.

    Raises:
        ConfigError: ``matrix`` is not square and symmetric.
    """
    if matrix.dim() != 2 or not torch.equal(matrix, matrix.T):
        raise ConfigError(
            f"Invalid matrix of shape {tuple(matrix.shape)}. Must be square and symmetric: (A + A.T) / 2."
        )
    middle = torch.zeros(len(matrix), dtype=torch.float64) if center is None else center
    eigenvalues = torch.linalg.eigvalsh(matrix)
    bounds = (float(eigenvalues[0]), float(eigenvalues[-1]))
    return Potential(
        name="quadratic",
        dimension=len(matrix),
        value=lambda x: 0.5 * ((x - middle) @ matrix * (x - middle)).sum(-1),
        slope=lambda x: (x - middle) @ matrix,
        minima=(tuple(middle.tolist()),) if bounds[0] > 0 else (),
        curvature=bounds,
    )


def random_potential(
    seed: int, *, dimension: int = 1, waves: int = 4, roughness: float = 1.0, confinement: float = 1.0
) -> Potential:
    """Return ``confinement/2 |y|^2 + sum_j a_j cos(w_j . y + p_j)`` with waves drawn from ``seed``.

    Smooth, confining, in general neither symmetric nor convex; its curvature is bounded by
    ``confinement -+ sum_j a_j |w_j|^2``.

    Args:
        seed: the same seed gives the same potential.
        dimension: d >= 1.
        waves: number of cosines, >= 1.
        roughness: amplitudes a_j are uniform in [0, roughness], >= 0.
        confinement: stiffness of the bowl, > 0.

    Raises:
        ConfigError: ``confinement`` is not positive, or ``roughness`` or ``waves`` out of range.
    """
    if not confinement > 0 or not roughness >= 0 or waves < 1:
        raise ConfigError(
            f"Invalid confinement={confinement}, roughness={roughness}, waves={waves}. Must be > 0, >= 0 and >= 1."
        )
    generator = torch.Generator().manual_seed(seed)
    amplitude = roughness * torch.rand(waves, generator=generator, dtype=torch.float64)
    wave = 1.5 * torch.randn(waves, dimension, generator=generator, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(waves, generator=generator, dtype=torch.float64)
    bend = float((amplitude * wave.square().sum(-1)).sum())

    def value(x: Tensor) -> Tensor:
        return 0.5 * confinement * x.square().sum(-1) + torch.cos(x @ wave.T + phase) @ amplitude

    def slope(x: Tensor) -> Tensor:
        return confinement * x - (torch.sin(x @ wave.T + phase) * amplitude) @ wave

    bounds = (confinement - bend, confinement + bend)
    return Potential(name=f"random-{seed}", dimension=dimension, value=value, slope=slope, curvature=bounds)


def tilt(potential: Potential, direction: Tensor) -> Potential:
    """Return ``f(y) + b . y``, with b = ``direction`` of shape (d,): breaks the tie between equal wells."""
    return Potential(
        name=f"tilted {potential.name}",
        dimension=potential.dimension,
        value=lambda x: potential(x) + x @ direction,
        slope=lambda x: potential.gradient(x) + direction,
        curvature=potential.curvature,
    )
