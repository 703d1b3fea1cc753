"""A number that was estimated, with its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A value and the standard deviation of what chance adds to it.

    Args:
        value: the estimate.
        stderr: its standard error, of chance alone: a bias is not in it.
    """

    value: float
    stderr: float

    @classmethod
    def of_mean(cls, draws: Tensor) -> Self:
        """Return the mean of independent ``draws``, shape (n,) with n >= 2."""
        return cls(float(draws.mean()), float(draws.std()) / math.sqrt(len(draws)))
