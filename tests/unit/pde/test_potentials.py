"""The potentials are what they say: gradients, minima and curvature bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import F1, F2, Grid, Potential, quadratic, random_potential, tilt

LINE = Grid(low=-3, high=3, points=6001)
BOWL = quadratic(torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64), center=torch.ones(2, dtype=torch.float64))
KNOWN = [F1, F2, BOWL, tilt(F2, torch.tensor([0.3], dtype=torch.float64))]


def by_autograd(potential: Potential) -> Potential:
    return Potential(name=potential.name, dimension=potential.dimension, value=potential.value)


def points(dimension: int) -> torch.Tensor:
    return 2 * torch.randn(50, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("potential", KNOWN, ids=lambda potential: potential.name)
def test_closed_form_of_the_gradient_is_that_of_autograd(potential: Potential) -> None:
    x = points(potential.dimension)
    torch.testing.assert_close(potential.gradient(x), by_autograd(potential).gradient(x))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), dimension=st.integers(1, 3))
def test_closed_form_of_a_random_gradient_is_that_of_autograd(seed: int, dimension: int) -> None:
    potential = random_potential(seed, dimension=dimension)
    x = points(dimension)
    torch.testing.assert_close(potential.gradient(x), by_autograd(potential).gradient(x))


def test_autograd_leaves_the_caller_s_tensor_alone() -> None:
    x = points(1)
    by_autograd(F1).gradient(x)
    assert not x.requires_grad
    assert x.grad is None


@pytest.mark.parametrize("potential", [F1, F2, BOWL], ids=lambda potential: potential.name)
def test_known_minima_are_the_lowest_points(potential: Potential) -> None:
    minima = torch.tensor(potential.minima, dtype=torch.float64)
    around = Grid(low=-3, high=3, points=301, dimension=potential.dimension).nodes()
    assert potential.gradient(minima).abs().max() < 1e-12
    assert potential(minima).max() <= potential(around).min() + 1e-12


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_curvature_bounds_of_a_random_potential_hold(seed: int) -> None:
    potential = random_potential(seed)
    curvature = torch.diff(potential.gradient(LINE.nodes()).flatten()) / LINE.spacing
    assert potential.curvature[0] <= curvature.min()
    assert curvature.max() <= potential.curvature[1]


def test_curvature_bounds_of_the_named_potentials_are_attained() -> None:
    for potential in (F1, F2):
        curvature = torch.diff(potential.gradient(LINE.nodes()).flatten()) / LINE.spacing
        assert curvature.min().item() == pytest.approx(potential.curvature[0], abs=1e-3)
    assert F1.curvature[1] == pytest.approx(2 + 6 * math.pi**2)


def test_the_same_seed_draws_the_same_potential_and_another_seed_another() -> None:
    x = points(2)
    assert torch.equal(random_potential(3, dimension=2)(x), random_potential(3, dimension=2)(x))
    assert not torch.allclose(random_potential(3, dimension=2)(x), random_potential(4, dimension=2)(x))


def test_a_saddle_has_no_minimum() -> None:
    saddle = quadratic(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)))
    assert saddle.minima == ()
    assert saddle.curvature == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"dimension": 0}, "dimension=0"),
        ({"dimension": 2, "minima": ((1.0,),)}, "2 numbers"),
        ({"dimension": 1, "curvature": (1.0, 0.0)}, "curvature"),
    ],
)
def test_a_potential_that_contradicts_itself_is_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Potential(name="wrong", value=F1.value, **values)  # type: ignore[arg-type]


def test_an_asymmetric_matrix_is_refused() -> None:
    with pytest.raises(ConfigError, match="symmetric"):
        quadratic(torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64))


def test_a_random_potential_without_confinement_is_refused() -> None:
    with pytest.raises(ConfigError, match="confinement=0"):
        random_potential(0, confinement=0)
