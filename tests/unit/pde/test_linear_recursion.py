"""Linear recursions against sums written out, and the methods' recursions against known ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde import spectral_radius_easgd, spectral_radius_nesterov
from deeprelax.pde.coupled_recursions import EasgdRecursion, NoisyQuadratic, ParleRecursion
from deeprelax.pde.linear_recursion import LinearRecursion

KEEP, PUSH, DEVIATION = 0.8, 0.3, 0.5


def autoregressive(state: Tensor, noise: Tensor, one: Tensor) -> Tensor:
    return KEEP * state + PUSH * one + DEVIATION * noise


SCALAR = LinearRecursion.of(autoregressive, size=1, noises=1)


def test_scalar_recursion_comes_to_rest_at_its_closed_form() -> None:
    mean, covariance = SCALAR.stationary()
    assert mean.item() == pytest.approx(PUSH / (1 - KEEP), rel=1e-12)
    assert covariance.item() == pytest.approx(DEVIATION**2 / (1 - KEEP**2), rel=1e-12)
    assert SCALAR.spectral_radius == pytest.approx(KEEP)


def test_repeated_steps_are_the_steps_one_by_one() -> None:
    mean, covariance = torch.tensor([2.0], dtype=torch.float64), torch.tensor([[0.1]], dtype=torch.float64)
    several = SCALAR.repeated(5).moments(mean, covariance)
    for _ in range(5):
        mean, covariance = SCALAR.moments(mean, covariance)
    torch.testing.assert_close(several, (mean, covariance), rtol=1e-14, atol=0)


def test_no_step_at_all_changes_nothing() -> None:
    mean, covariance = SCALAR.repeated(0).moments(torch.ones(1, dtype=torch.float64))
    assert (mean.item(), covariance.item()) == (1.0, 0.0)


def test_a_recursion_that_does_not_come_to_rest_is_refused() -> None:
    with pytest.raises(ConfigError, match="radius 1"):
        LinearRecursion.of(lambda state, _, one: state + one, size=1, noises=1).stationary()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_parle_without_springs_and_average_is_nesterov(momentum: float) -> None:
    loss = NoisyQuadratic(curvature=2.0)
    alone = {"gamma": math.inf, "rho": math.inf, "lr": 0.1, "outer_lr": 1.0, "momentum": momentum}
    recursion = ParleRecursion(loss=loss, replicas=1, period=3, **alone).of_period()
    step, m = torch.tensor(0.2, dtype=torch.float64), torch.tensor(momentum, dtype=torch.float64)
    assert recursion.spectral_radius == pytest.approx(spectral_radius_nesterov(step, m).item() ** 3, rel=1e-6)


@pytest.mark.parametrize("replicas", [1, 4])
def test_easgd_has_the_radius_of_its_own_matrix(replicas: int) -> None:
    recursion = EasgdRecursion(
        loss=NoisyQuadratic(curvature=2.0), replicas=replicas, period=1, lr=0.3, elasticity=0.9
    ).of_period()
    step, alpha = (torch.tensor(value, dtype=torch.float64) for value in (0.6, 0.9 / replicas))
    assert recursion.spectral_radius == pytest.approx(spectral_radius_easgd(step, alpha, replicas).item(), rel=1e-9)


def test_the_minimum_is_where_the_methods_rest() -> None:
    loss = NoisyQuadratic(curvature=2.0, minimum=0.7, noise=0.1)
    parle = ParleRecursion(
        loss=loss, replicas=2, period=3, gamma=0.5, rho=2.0, lr=0.1, outer_lr=0.5, outer_momentum=0.3
    )
    easgd = EasgdRecursion(loss=loss, replicas=2, period=3, lr=0.1, elasticity=0.9)
    for made in (parle, easgd):
        mean, covariance = made.of_period().stationary()
        torch.testing.assert_close(mean, made.start(torch.full((2,), 0.7, dtype=torch.float64)))
        assert (torch.linalg.eigvalsh(covariance) > -1e-15).all()


def test_no_replica_or_no_step_is_refused() -> None:
    loss = NoisyQuadratic(curvature=1.0)
    with pytest.raises(ConfigError, match="replicas=0"):
        EasgdRecursion(loss=loss, replicas=0, period=1, lr=0.1, elasticity=0.9)
    with pytest.raises(ConfigError, match="period=0"):
        ParleRecursion(loss=loss, replicas=1, period=0, gamma=1.0, rho=1.0, lr=0.1, outer_lr=1.0)
