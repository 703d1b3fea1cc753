"""The losses of simulations: potentials of the theory in any dimension, with their lowest value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from deeprelax.errors import ConfigError, nearest
from deeprelax.pde.potentials import F1, F2, Potential, quadratic

SOFTEST = 0.1
"""Smallest curvature of ``quadratic``; the largest is 1, those between are spaced evenly in their logarithm."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What the replicas descend.

    Args:
        potential: f on R^d.
        lowest: min f.
    """

    potential: Potential
    lowest: float


def named_loss(name: str, dimension: int) -> Loss:
    """Return ``quadratic``, ``f1`` or ``f2``, the last two summed over the coordinates.

    Raises:
        ConfigError: no such loss, or the dimension is below 1.
    """
    if dimension < 1:
        raise ConfigError(f"Invalid dimension={dimension}. Must be >= 1.")
    if name == "quadratic":
        curvatures = torch.logspace(0, 1, dimension, base=SOFTEST, dtype=torch.float64)
        return Loss(potential=quadratic(torch.diag(curvatures)), lowest=0.0)
    known = {"f1": F1, "f2": F2}
    if name not in known:
        raise ConfigError(f"Unknown loss {name!r}. Must be one of quadratic, f1, f2.{nearest(name, known)}")
    one = known[name]
    lowest = float(one(torch.tensor(one.minima[0], dtype=torch.float64)))
    minima = tuple(point * dimension for point in one.minima)
    return Loss(potential=replace(one, dimension=dimension, minima=minima), lowest=dimension * lowest)
