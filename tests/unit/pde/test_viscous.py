"""The upwind solver: closed form, its order, the comparison principle of a monotone scheme."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import (
    F1,
    Grid,
    HopfLax,
    LocalEntropy,
    Potential,
    fitted_order,
    quadratic,
    random_potential,
    solve_viscous,
)


def middle(grid: Grid) -> torch.Tensor:
    return grid.axis().abs() <= 1.5


@pytest.mark.parametrize("beta", [2.0, math.inf])
def test_quadratic_converges_to_its_closed_form_with_order_one(beta: float) -> None:
    gamma, curvature = 0.5, 2.0
    bowl = quadratic(torch.tensor([[curvature]], dtype=torch.float64))
    spacings, errors = (0.08, 0.04, 0.02, 0.01), []
    for spacing in spacings:
        grid = Grid.covering(-3, 3, spacing)
        softened = curvature / (1 + gamma * curvature)
        exact = softened / 2 * grid.axis().square() + math.log(1 + gamma * curvature) / (2 * beta)
        solved = solve_viscous(bowl, gamma=gamma, beta=beta, grid=grid)
        errors.append(float((solved - exact)[middle(grid)].abs().max()))
    assert fitted_order(spacings, errors) == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 0.02


def test_without_viscosity_f1_converges_to_hopf_lax() -> None:
    envelope = HopfLax(potential=F1, gamma=0.2, grid=Grid.covering(-10, 10, 0.01))
    spacings, errors = (0.04, 0.02, 0.01, 0.005), []
    for spacing in spacings:
        grid = Grid.covering(-3.2, 3.2, spacing)
        solved = solve_viscous(F1, gamma=0.2, beta=math.inf, grid=grid)
        errors.append(float((solved - envelope.value(grid.nodes()))[middle(grid)].abs().max()))
    assert fitted_order(spacings, errors) == pytest.approx(1.0, abs=0.15)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_random_potentials_agree_with_cole_hopf_up_to_the_spacing(seed: int) -> None:
    potential = random_potential(seed, roughness=0.5, confinement=2.0)
    gamma, beta = 0.2, 2.0
    coarse, fine = Grid.covering(-5, 5, 0.04), Grid.covering(-5, 5, 0.02)
    entropy = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=Grid.covering(-14, 14, 0.02))
    errors = [
        (solve_viscous(potential, gamma=gamma, beta=beta, grid=grid) - entropy.value(grid.nodes()))[middle(grid)]
        for grid in (coarse, fine)
    ]
    assert errors[1].abs().max() < 0.65 * errors[0].abs().max()
    assert errors[1].abs().max() < 0.05


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_higher_loss_stays_higher(seed: int) -> None:
    lower = random_potential(seed, roughness=0.3, confinement=2.0)
    higher = Potential(name="higher", dimension=1, value=lambda x: lower(x) + 0.1 * torch.sin(3 * x).square().sum(-1))
    grid = Grid.covering(-6, 6, 0.05)
    below = solve_viscous(lower, gamma=0.3, beta=3.0, grid=grid)
    above = solve_viscous(higher, gamma=0.3, beta=3.0, grid=grid)
    assert (above - below)[middle(grid)].min() >= -1e-12


@pytest.mark.parametrize(
    ("gamma", "beta", "grid", "named"),
    [
        (0.0, 1.0, Grid.covering(-3.2, 3.2, 0.1), "gamma"),
        (1.0, 0.0, Grid.covering(-3.2, 3.2, 0.1), "beta"),
        (1.0, 1.0, Grid.covering(0.0, 3.2, 0.1), "falls towards an end"),
        (1.0, 1.0, Grid(low=-3, high=3, points=4), "points or more"),
    ],
)
def test_values_out_of_range_are_refused(gamma: float, beta: float, grid: Grid, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        solve_viscous(F1, gamma=gamma, beta=beta, grid=grid)
