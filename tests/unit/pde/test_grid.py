"""The grid that quadratures and solvers share."""

from __future__ import annotations

import pytest
import torch

from deeprelax.errors import ConfigError
from deeprelax.pde import Grid


def test_nodes_of_the_square_are_all_pairs_of_the_axis() -> None:
    grid = Grid(low=-1, high=2, points=4, dimension=2)
    assert grid.nodes().shape == (16, 2)
    assert grid.nodes()[1].tolist() == [-1.0, 0.0]
    assert (grid.spacing, grid.cell) == (1.0, 1.0)


def test_offset_moves_every_axis_by_a_part_of_the_spacing() -> None:
    grid = Grid(low=0, high=4, points=3, dimension=2)
    torch.testing.assert_close(grid.nodes(offset=0.25), grid.nodes() + 0.5)


@pytest.mark.parametrize(("spacing", "points"), [(0.1, 11), (0.3, 5), (5.0, 3)])
def test_covering_is_the_coarsest_grid_of_at_most_that_spacing(spacing: float, points: int) -> None:
    grid = Grid.covering(0, 1, spacing)
    assert grid.points == points
    assert grid.spacing <= spacing * (1 + 1e-9)


def test_doubled_keeps_the_middle_and_refined_keeps_the_nodes() -> None:
    grid = Grid(low=-1, high=3, points=5)
    assert (grid.doubled().low, grid.doubled().high) == (-3.0, 5.0)
    torch.testing.assert_close(grid.refined().axis()[::2], grid.axis())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"low": 1, "high": 1, "points": 9}, "low < high"),
        ({"low": 0, "high": float("inf"), "points": 9}, "finite"),
        ({"low": 0, "high": 1, "points": 2}, "points=2"),
        ({"low": 0, "high": 1, "points": 9, "dimension": 3}, "dimension=3"),
    ],
)
def test_a_grid_out_of_range_is_refused(values: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Grid(**values)  # type: ignore[arg-type]


def test_covering_refuses_a_spacing_that_is_not_positive() -> None:
    with pytest.raises(ConfigError, match=r"spacing=0\.0"):
        Grid.covering(0, 1, 0.0)
