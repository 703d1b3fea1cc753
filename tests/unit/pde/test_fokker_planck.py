"""The auxiliary Fokker-Planck equation and its rate."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import F2, AuxiliaryFokkerPlanck, Grid, contraction_rate, quadratic, random_potential

GRID = Grid.covering(-5, 5, 0.03)


def gaussian(mean: float, variance: float) -> torch.Tensor:
    return torch.softmax(-(GRID.axis() - mean).square() / (2 * variance), -1)


def test_on_a_quadratic_the_rate_of_the_bound_is_exact() -> None:
    bowl = quadratic(torch.tensor([[1.0]], dtype=torch.float64))
    equation = AuxiliaryFokkerPlanck(potential=bowl, x=0.3, gamma=0.5, beta=2.0, grid=GRID)
    rate = contraction_rate(bowl, 0.5)
    laws = equation.laws(gaussian(-1.0, 1 / (2 * rate)), dt=0.1, steps=8)
    times = 0.1 * torch.arange(9, dtype=torch.float64)
    mean = 0.3 / 0.5 / rate
    # The start has the final variance: only the mean moves, W2 is its distance and KL = beta rate W2^2 / 2.
    expected = (1.0 + mean) * torch.exp(-rate * times)
    assert rate == 3.0
    torch.testing.assert_close(equation.wasserstein(laws), expected, rtol=5e-3, atol=1e-4)
    torch.testing.assert_close(equation.relative_entropy(laws), rate * expected.square(), rtol=1e-2, atol=1e-4)


def test_invariant_law_does_not_move() -> None:
    equation = AuxiliaryFokkerPlanck(potential=F2, x=0.3, gamma=0.1, beta=1.0, grid=Grid.covering(-3, 3, 0.03))
    laws = equation.laws(equation.invariant(), dt=1.0, steps=1)
    torch.testing.assert_close(laws[1], laws[0], rtol=1e-9, atol=1e-14)
    assert equation.wasserstein(laws).max() < 1e-9
    assert equation.relative_entropy(laws).abs().max() < 1e-12


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_both_bounds_hold_on_random_potentials(seed: int) -> None:
    potential = random_potential(seed, roughness=0.4)
    gamma = 0.5 / max(1.0, -potential.curvature[0])
    rate = contraction_rate(potential, gamma)
    equation = AuxiliaryFokkerPlanck(potential=potential, x=0.3, gamma=gamma, beta=1.0, grid=GRID)
    horizon = 1.5 / rate
    laws = equation.laws(gaussian(-1.5, 0.05), dt=horizon / 10, steps=10)
    times = horizon / 10 * torch.arange(11, dtype=torch.float64)
    distance, entropy = equation.wasserstein(laws), equation.relative_entropy(laws)
    assert (distance <= 1.002 * distance[0] * torch.exp(-rate * times)).all()
    assert (entropy <= 1.002 * entropy[0] * torch.exp(-2 * rate * times)).all()


def test_rate_changes_sign_at_the_curvature() -> None:
    assert contraction_rate(F2, 0.1) == pytest.approx(6.0)
    assert contraction_rate(F2, 1.0) == pytest.approx(-3.0)
    assert math.isclose(contraction_rate(F2, 0.25), 0.0, abs_tol=1e-12)


@pytest.mark.parametrize(("gamma", "dimension", "named"), [(0.0, 1, "gamma"), (1.0, 2, "dimension")])
def test_values_out_of_range_are_refused(gamma: float, dimension: int, named: str) -> None:
    potential = random_potential(0, dimension=dimension)
    with pytest.raises(ConfigError, match=named):
        AuxiliaryFokkerPlanck(potential=potential, x=0.0, gamma=gamma, beta=1.0, grid=GRID)
