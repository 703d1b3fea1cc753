"""The stochastic control problem: a closed form, the identities, the lower loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import F2, ControlProblem, Grid, Potential, quadratic, random_potential

GRID = Grid(low=-4, high=4, points=201)


def bowl(curvature: float) -> Potential:
    return quadratic(torch.tensor([[curvature]], dtype=torch.float64))


def test_linear_quadratic_problem_has_its_closed_form() -> None:
    stiffness, cost, beta, horizon = 1.0, 2.0, 2.0, 0.7
    problem = ControlProblem(
        loss=bowl(stiffness),
        terminal=bowl(cost),
        beta=beta,
        horizon=horizon,
        steps=50,
        grid=GRID,
    )
    # x_T under SGD is Gaussian, so E exp(-beta cost x_T^2 / 2) is a Gaussian integral.
    mean = math.exp(-stiffness * horizon)
    variance = (1 - mean**2) / (2 * beta * stiffness)
    widening = 1 + beta * cost * variance
    x = GRID.axis()
    exact = cost * (mean * x).square() / (2 * widening) + math.log(widening) / (2 * beta)
    inner = x.abs() < 2
    torch.testing.assert_close(problem.values[0][inner], exact[inner], rtol=2e-3, atol=1e-3)
    slope = cost * mean**2 / widening
    torch.testing.assert_close(problem.controls[0][inner], -slope * x[inner], rtol=1e-2, atol=1e-3)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_control_lowers_the_loss_and_every_path_pays_the_value_on_random_potentials(seed: int) -> None:
    potential = random_potential(seed)
    spreads = []
    for steps in (100, 400):
        problem = ControlProblem(loss=potential, terminal=potential, beta=2.0, horizon=1.0, steps=steps, grid=GRID)
        paid = problem.simulate(1.0, paths=1000, controlled=True, generator=torch.Generator().manual_seed(seed))
        pathwise = paid.terminal + paid.energy + paid.martingale - problem.value_at(1.0)
        spreads.append(pathwise.std().item())
    plain, controlled = problem.expected_losses(1.0)
    assert controlled <= problem.value_at(1.0) <= plain
    assert pathwise.mean().abs() < 0.05
    # What varies from path to path is the error of the time step, of order 1/2 along a path.
    assert spreads[1] < 0.65 * spreads[0]


def test_plain_paths_pay_nothing() -> None:
    problem = ControlProblem(
        loss=F2, terminal=F2, beta=2.0, horizon=0.2, steps=5, grid=Grid(low=-3, high=3, points=301)
    )
    paid = problem.simulate(1.0, paths=4, controlled=False, generator=torch.Generator().manual_seed(0))
    assert paid.energy.tolist() == paid.martingale.tolist() == [0.0] * 4


def test_terminal_laws_are_probabilities() -> None:
    problem = ControlProblem(
        loss=F2, terminal=F2, beta=2.0, horizon=0.2, steps=5, grid=Grid(low=-3, high=3, points=301)
    )
    for law in problem.terminal_laws(1.0):
        assert law.min() >= 0
        assert law.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"beta": 0.0}, "beta"),
        ({"steps": 0}, "steps"),
        ({"beta": 50.0, "terminal": bowl(20.0)}, "underflows"),
        ({"terminal": random_potential(0, dimension=2)}, "dimension"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], named: str) -> None:
    values = {"loss": bowl(1.0), "terminal": bowl(1.0), "beta": 2.0, "horizon": 1.0, "steps": 5, "grid": GRID} | changes
    with pytest.raises(ConfigError, match=named):
        ControlProblem(**values)  # type: ignore[arg-type]
