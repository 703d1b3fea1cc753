"""Orders of convergence, fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deeprelax.errors import ConfigError

FEWEST_SIZES = 4


def fitted_order(sizes: Sequence[float], errors: Sequence[float]) -> float:
    """Return the least-squares slope of log(error) against log(size).

    Args:
        sizes: at least 4 step sizes, sample counts or the like, all > 0.
        errors: the error at each size, all > 0.

    Raises:
        ConfigError: fewer than 4 sizes, or not as many errors, or a value that has no logarithm.
    """
    if len(sizes) != len(errors) or len(sizes) < FEWEST_SIZES or not min(*sizes, *errors) > 0:
        raise ConfigError(
            f"Invalid sizes={list(sizes)}, errors={list(errors)}. Must be {FEWEST_SIZES} or more pairs > 0."
        )
    x = [math.log(size) for size in sizes]
    y = [math.log(error) for error in errors]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - x_mean) ** 2 for a in x)
