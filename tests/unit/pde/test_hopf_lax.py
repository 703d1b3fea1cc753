"""Hopf-Lax: closed form, the optimality of the proximal point, refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import F1, Grid, HopfLax, local_minima, quadratic, random_potential

WIDE = Grid.covering(-12, 12, 0.01)


@pytest.mark.parametrize("curvature", [3.0, 0.0, -1.5], ids=["bowl", "flat", "hill"])
def test_quadratic_has_its_closed_form(curvature: float) -> None:
    gamma = 0.4
    envelope = HopfLax(potential=quadratic(torch.tensor([[curvature]], dtype=torch.float64)), gamma=gamma, grid=WIDE)
    x = Grid(low=-2, high=2, points=9).nodes()
    softened = curvature / (1 + gamma * curvature)
    torch.testing.assert_close(envelope.value(x), softened / 2 * x.square().squeeze(-1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(envelope.prox(x), x / (1 + gamma * curvature), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(envelope.gradient(x), softened * x, rtol=1e-6, atol=1e-6)


def test_quadratic_in_the_plane_has_its_closed_form() -> None:
    matrix = torch.tensor([[2.0, 0.7], [0.7, 0.5]], dtype=torch.float64)
    envelope = HopfLax(potential=quadratic(matrix), gamma=0.5, grid=Grid.covering(-3, 3, 0.1, dimension=2))
    x = Grid(low=-1, high=1, points=3, dimension=2).nodes()
    softened = matrix @ torch.linalg.inv(torch.eye(2, dtype=torch.float64) + 0.5 * matrix)
    torch.testing.assert_close(envelope.value(x), (x @ softened * x).sum(-1) / 2, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.05, 1.0))
def test_gradient_is_that_of_the_loss_at_the_proximal_point(seed: int, gamma: float) -> None:
    potential = random_potential(seed)
    envelope = HopfLax(potential=potential, gamma=gamma, grid=WIDE)
    x = Grid(low=-2, high=2, points=21).nodes()
    torch.testing.assert_close(envelope.gradient(x), potential.gradient(envelope.prox(x)), rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0.05, 1.0))
def test_no_point_of_a_finer_grid_beats_the_minimum(seed: int, gamma: float) -> None:
    potential = random_potential(seed)
    x = Grid(low=-2, high=2, points=5).nodes()
    finer = Grid.covering(-12, 12, 0.001).nodes()
    energy = potential(finer) + (x - finer.T).square() / (2 * gamma)
    best = energy.min(-1).values
    # A tie of two basins may fall to the wrong one, by at most this.
    slack = (potential.curvature[1] + 1 / gamma) * WIDE.spacing**2 / 8
    assert (HopfLax(potential=potential, gamma=gamma, grid=WIDE).value(x) <= best + slack).all()


def test_minima_of_the_envelope_are_minima_of_the_loss() -> None:
    window = Grid(low=-2.5, high=2.5, points=5001)
    kept = local_minima(HopfLax(potential=F1, gamma=0.2, grid=WIDE).value, window)
    before = local_minima(F1, window)
    assert len(kept) < len(before)
    assert all((before - minimum).abs().min() < 2e-3 for minimum in kept)


def test_a_minimizer_outside_the_grid_is_refused_and_the_named_extent_works() -> None:
    x = torch.tensor([[5.0]], dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"Must reach from -8 to 8"):
        HopfLax(potential=F1, gamma=0.01, grid=Grid.covering(-4, 4, 0.01)).prox(x)
    assert HopfLax(potential=F1, gamma=0.01, grid=Grid.covering(-8, 8, 0.01)).prox(x).item() > 4


def test_an_envelope_that_is_minus_infinity_is_refused() -> None:
    hill = quadratic(torch.tensor([[-2.0]], dtype=torch.float64))
    with pytest.raises(ConfigError, match="gamma below 1/c"):
        HopfLax(potential=hill, gamma=1.0, grid=WIDE).value(torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize(("gamma", "dimension", "named"), [(0.0, 1, r"gamma=0\.0"), (1.0, 2, "dimension=2")])
def test_values_out_of_range_are_refused(gamma: float, dimension: int, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        HopfLax(potential=F1, gamma=gamma, grid=Grid(low=-4, high=4, points=11, dimension=dimension))
