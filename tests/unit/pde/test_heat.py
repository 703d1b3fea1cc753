"""Gaussian smoothing: closed forms and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from deeprelax.errors import ConfigError
from deeprelax.pde import F1, F2, Grid, HeatSmoothing, Potential, quadratic

X = Grid(low=-2, high=2, points=9).nodes(offset=0.3)
# Where the wave of F1 vanishes: a symmetric rule smooths its value right by luck, but not its slope.
ZEROS = Grid(low=-2, high=2, points=9).nodes()


def test_smoothing_damps_the_waves_of_f1_and_lifts_its_bowl() -> None:
    variance = 0.05
    damping = math.exp(-2 * math.pi**2 * variance)
    expected = (X.square() + variance + 1.5 * damping * torch.sin(2 * math.pi * X)).squeeze(-1)
    torch.testing.assert_close(HeatSmoothing(potential=F1, variance=variance).value(X), expected)


def test_gradient_of_the_smoothed_double_well() -> None:
    # E (x + s)^3 = x^3 + 3 x variance, so the smoothed slope is 4 x^3 + (12 variance - 4) x.
    expected = 4 * X**3 + (12 * 0.3 - 4) * X
    torch.testing.assert_close(HeatSmoothing(potential=F2, variance=0.3, order=8).gradient(X), expected)


def test_a_quadratic_in_the_plane_is_lifted_by_half_its_trace() -> None:
    matrix = torch.tensor([[2.0, 0.7], [0.7, -0.5]], dtype=torch.float64)
    potential = quadratic(matrix)
    x = Grid(low=-1, high=1, points=3, dimension=2).nodes()
    smooth = HeatSmoothing(potential=potential, variance=0.4, order=4)
    torch.testing.assert_close(smooth.value(x), potential(x) + 0.2 * torch.trace(matrix))
    torch.testing.assert_close(smooth.gradient(x), potential.gradient(x))


def test_too_few_nodes_are_refused_and_the_named_order_works() -> None:
    with pytest.raises(ConfigError, match=r"Use order=(\d+)") as caught:
        HeatSmoothing(potential=F1, variance=0.5, order=6).gradient(X)
    order = int(str(caught.value).rsplit("=", 1)[1].rstrip("."))
    damped = 1.5 * math.exp(-(math.pi**2)) * torch.sin(2 * math.pi * X)
    expected = (X.square() + 0.5 + damped).squeeze(-1)
    value = HeatSmoothing(potential=F1, variance=0.5, order=order).value(X)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)


def test_a_kink_that_no_order_can_carry_is_refused() -> None:
    kink = Potential(name="kink", dimension=1, value=lambda x: x.abs().sum(-1))
    with pytest.raises(ConfigError, match="lower gamma / beta"):
        HeatSmoothing(potential=kink, variance=1.0).value(X)


def test_a_gradient_is_checked_where_the_value_is_right_by_luck() -> None:
    few = HeatSmoothing(potential=F1, variance=0.5, order=6)
    torch.testing.assert_close(few.value(ZEROS), ZEROS.square().squeeze(-1) + 0.5)
    with pytest.raises(ConfigError, match="Use order="):
        few.gradient(ZEROS)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"variance": 0.0}, "variance"),
        ({"variance": 1.0, "order": 1}, "order=1"),
        ({"variance": 1.0, "order": 999}, "order"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        HeatSmoothing(potential=F1, **values)  # type: ignore[arg-type]


def test_three_dimensions_are_refused() -> None:
    with pytest.raises(ConfigError, match="dimension=3"):
        HeatSmoothing(potential=quadratic(torch.eye(3, dtype=torch.float64)), variance=1.0)
