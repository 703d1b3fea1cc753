"""Fitting an order of convergence."""

from __future__ import annotations

import pytest

from deeprelax.errors import ConfigError
from deeprelax.pde import fitted_order


def test_a_power_law_gives_its_exponent() -> None:
    sizes = [0.1, 0.2, 0.4, 0.8]
    assert fitted_order(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("sizes", "errors"),
    [([1, 2, 3], [1, 2, 3]), ([1, 2, 3, 4], [1, 2, 3]), ([1, 2, 3, 4], [1, 2, 3, 0.0]), ([0, 1, 2, 3], [1, 2, 3, 4])],
)
def test_what_cannot_be_fitted_is_refused(sizes: list[float], errors: list[float]) -> None:
    with pytest.raises(ConfigError, match="4 or more"):
        fitted_order(sizes, errors)
