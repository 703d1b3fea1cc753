"""The Cole-Hopf quadrature: closed forms, identities on random potentials, and refusals instead of wrong numbers."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import F1, F2, Grid, HeatSmoothing, LocalEntropy, Potential, quadratic, random_potential

WIDE = Grid.covering(-14, 14, 0.02)
SEEDS = st.integers(0, 10**6)
GAMMAS = st.floats(0.05, 1.0)
BETAS = st.floats(0.5, 5.0)


def grid_of(message: str) -> Grid:
    """Return the grid that an error says to use."""
    found = re.search(r"use Grid\(low=(\S+), high=(\S+), points=(\d+), dimension=(\d)\)", message)
    assert found, message
    low, high, points, dimension = found.groups()
    return Grid(low=float(low), high=float(high), points=int(points), dimension=int(dimension))


@pytest.mark.parametrize("curvature", [3.0, 0.0, -1.5], ids=["bowl", "flat", "hill"])
@pytest.mark.parametrize(("gamma", "beta"), [(0.4, 2.0), (0.1, 30.0)])
def test_quadratic_has_its_closed_form(curvature: float, gamma: float, beta: float) -> None:
    potential = quadratic(torch.tensor([[curvature]], dtype=torch.float64), center=torch.ones(1, dtype=torch.float64))
    entropy = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=WIDE)
    x = Grid(low=-1, high=2, points=7).nodes()
    softened = torch.tensor(curvature / (1 + gamma * curvature), dtype=torch.float64)
    offset = torch.log(torch.tensor(1 + gamma * curvature, dtype=torch.float64)) / (2 * beta)
    torch.testing.assert_close(entropy.value(x), softened / 2 * (x - 1).square().squeeze(-1) + offset)
    torch.testing.assert_close(entropy.gradient(x), softened * (x - 1), rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(entropy.hessian(x), softened.expand(7, 1, 1), rtol=1e-6, atol=1e-9)


def test_quadratic_saddle_in_the_plane_has_its_closed_form() -> None:
    matrix = torch.tensor([[2.0, 0.7], [0.7, -0.5]], dtype=torch.float64)
    gamma, beta = 0.5, 3.0
    grid = Grid.covering(-6, 6, 0.1, dimension=2)
    entropy = LocalEntropy(potential=quadratic(matrix), gamma=gamma, beta=beta, grid=grid)
    x = Grid(low=-1, high=1, points=3, dimension=2).nodes()
    widening = torch.eye(2, dtype=torch.float64) + gamma * matrix
    softened = matrix @ torch.linalg.inv(widening)
    expected = (x @ softened * x).sum(-1) / 2 + torch.logdet(widening) / (2 * beta)
    torch.testing.assert_close(entropy.value(x), expected)
    torch.testing.assert_close(entropy.gradient(x), x @ softened)
    torch.testing.assert_close(entropy.hessian(x), softened.expand(9, 2, 2))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, gamma=GAMMAS, beta=BETAS)
def test_both_forms_of_the_gradient_agree_on_random_potentials(seed: int, gamma: float, beta: float) -> None:
    entropy = LocalEntropy(potential=random_potential(seed), gamma=gamma, beta=beta, grid=WIDE)
    x = Grid(low=-2, high=2, points=21).nodes()
    torch.testing.assert_close(entropy.gradient(x), entropy.mean_gradient(x), rtol=1e-8, atol=1e-8)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS)
def test_both_forms_of_the_gradient_agree_in_the_plane(seed: int) -> None:
    potential = random_potential(seed, dimension=2)
    narrowest = (2.0 * (1 / 0.3 + potential.curvature[1])) ** -0.5
    grid = Grid.covering(-7, 7, min(0.12, 0.7 * narrowest), dimension=2)
    entropy = LocalEntropy(potential=potential, gamma=0.3, beta=2.0, grid=grid)
    x = Grid(low=-1, high=1, points=3, dimension=2).nodes()
    torch.testing.assert_close(entropy.gradient(x), entropy.mean_gradient(x), rtol=1e-8, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, gamma=GAMMAS, beta=BETAS)
def test_derivatives_are_those_of_the_value_on_random_potentials(seed: int, gamma: float, beta: float) -> None:
    entropy = LocalEntropy(potential=random_potential(seed), gamma=gamma, beta=beta, grid=WIDE)
    x = Grid(low=-2, high=2, points=11).nodes()
    step = 1e-4
    slope = (entropy.value(x + step) - entropy.value(x - step)) / (2 * step)
    bend = (entropy.gradient(x + step) - entropy.gradient(x - step)).squeeze(-1) / (2 * step)
    torch.testing.assert_close(slope, entropy.gradient(x).squeeze(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(bend, entropy.hessian(x).flatten(), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, gamma=GAMMAS, beta=BETAS)
def test_value_lies_between_the_minimum_and_the_heat_flow(seed: int, gamma: float, beta: float) -> None:
    potential = random_potential(seed)
    x = Grid(low=-2, high=2, points=11).nodes()
    u = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=WIDE).value(x)
    assert (u >= potential(WIDE.nodes()).min() - 1e-10).all()
    assert (u <= HeatSmoothing(potential=potential, variance=gamma / beta, order=100).value(x) + 1e-10).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, gamma=GAMMAS)
def test_semiconcavity_holds_for_random_potentials(seed: int, gamma: float) -> None:
    potential = random_potential(seed)
    x = Grid(low=-3, high=3, points=121).nodes()
    hessian = LocalEntropy(potential=potential, gamma=gamma, beta=2.0, grid=WIDE).hessian(x)
    assert hessian.max() <= 1 / (1 / potential.curvature[1] + gamma) + 1e-9


def test_leading_axes_of_x_are_kept() -> None:
    entropy = LocalEntropy(potential=F2, gamma=1.0, beta=1.0, grid=WIDE)
    x = torch.zeros(2, 3, 1, dtype=torch.float64)
    assert entropy.value(x).shape == (2, 3)
    assert entropy.gradient(x).shape == (2, 3, 1)
    assert entropy.hessian(x).shape == (2, 3, 1, 1)


def test_samples_have_the_moments_of_the_gibbs_measure() -> None:
    entropy = LocalEntropy(potential=F2, gamma=1.0, beta=1.0, grid=WIDE)
    x = torch.tensor([0.3], dtype=torch.float64)
    draws = entropy.sample(x, 40_000, torch.Generator().manual_seed(0))
    variance = (1 - entropy.hessian(x)).item()
    assert draws.mean().item() == pytest.approx(entropy.mean(x).item(), abs=4 * (variance / 40_000) ** 0.5)
    assert draws.var().item() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    ("potential", "gamma", "beta", "grid"),
    [
        (F1, 1e-3, 2.0, Grid.covering(-8, 8, 0.05)),
        (F1, 10.0, 20.0, Grid.covering(-8, 8, 0.2)),
        (F1, 100.0, 1.0, Grid.covering(-8, 8, 1.0)),
        (F2, 1.0, 500.0, Grid.covering(-3, 3, 0.02)),
        (random_potential(1, dimension=2), 0.5, 40.0, Grid.covering(-4, 4, 0.1, dimension=2)),
    ],
    ids=["kernel", "potential", "aliased wave", "sharp wells", "plane"],
)
def test_too_wide_a_spacing_is_refused_and_the_named_grid_works(
    potential: Potential, gamma: float, beta: float, grid: Grid
) -> None:
    x = torch.full((1, potential.dimension), 0.3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="Spacing must be <=") as caught:
        LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=grid).value(x)
    named = grid_of(str(caught.value))
    assert named.spacing < grid.spacing
    for _ in range(2):  # the first error may only know the kernel, the second has seen the potential
        try:
            value = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=named).value(x)
            break
        except ConfigError as again:
            named = grid_of(str(again))
    finer = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=named.refined()).value(x)
    torch.testing.assert_close(value, finer, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("potential", "x", "grid"),
    [
        (F1, 0.3, Grid.covering(-1, 1, 0.02)),
        (F1, 9.0, Grid.covering(-4, 4, 0.02)),
        (F2, 0.0, Grid.covering(-0.5, 3, 0.02)),
    ],
    ids=["narrow", "x outside", "a well outside"],
)
def test_cut_tails_are_refused_and_the_named_grid_works(potential: Potential, x: float, grid: Grid) -> None:
    point = torch.tensor([[x]], dtype=torch.float64)
    with pytest.raises(ConfigError, match="Must reach from") as caught:
        LocalEntropy(potential=potential, gamma=1.0, beta=2.0, grid=grid).value(point)
    named = grid_of(str(caught.value))
    value = LocalEntropy(potential=potential, gamma=1.0, beta=2.0, grid=named).value(point)
    finer = LocalEntropy(potential=potential, gamma=1.0, beta=2.0, grid=Grid.covering(-20, 20, 0.01)).value(point)
    torch.testing.assert_close(value, finer, rtol=1e-9, atol=1e-9)


def test_a_gibbs_measure_that_does_not_exist_is_refused() -> None:
    hill = quadratic(torch.tensor([[-2.0]], dtype=torch.float64))
    with pytest.raises(ConfigError, match="gamma below 1/c"):
        LocalEntropy(potential=hill, gamma=1.0, beta=1.0, grid=WIDE).value(torch.zeros(1, 1, dtype=torch.float64))


def test_a_loss_that_is_not_a_number_is_refused() -> None:
    broken = Potential(name="broken", dimension=1, value=lambda y: torch.log(y).sum(-1))
    with pytest.raises(ConfigError):
        LocalEntropy(potential=broken, gamma=1.0, beta=1.0, grid=WIDE).value(torch.zeros(1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("gamma", "beta", "dimension", "named"),
    [
        (0.0, 1.0, 1, r"gamma=0\.0"),
        (-1.0, 1.0, 1, r"gamma=-1\.0"),
        (1.0, float("inf"), 1, "beta=inf"),
        (1.0, float("nan"), 1, "beta=nan"),
        (1.0, 1.0, 2, "dimension=2"),
    ],
)
def test_values_out_of_range_are_refused(gamma: float, beta: float, dimension: int, named: str) -> None:
    grid = Grid(low=-4, high=4, points=101, dimension=dimension)
    with pytest.raises(ConfigError, match=named):
        LocalEntropy(potential=F1, gamma=gamma, beta=beta, grid=grid)
