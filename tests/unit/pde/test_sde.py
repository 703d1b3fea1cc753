"""The fast-slow process and its homogenized limit."""

from __future__ import annotations

import math

import pytest
import torch

from deeprelax.errors import ConfigError
from deeprelax.pde import F2, Grid, LocalEntropy, fast_slow, fitted_order, homogenized, quadratic


def test_homogenized_flow_is_of_order_four_in_its_step() -> None:
    entropy = LocalEntropy(potential=F2, gamma=0.2, beta=4.0, grid=Grid.covering(-5, 5, 0.02))
    start = torch.tensor([[1.8]], dtype=torch.float64)
    exact = homogenized(entropy.gradient, start, horizon=1.0, steps=320)
    steps = (8, 16, 32, 64)
    errors = [(homogenized(entropy.gradient, start, horizon=1.0, steps=n) - exact).abs().item() for n in steps]
    assert fitted_order([1 / n for n in steps], errors) == pytest.approx(4.0, abs=0.3)


def test_on_a_quadratic_the_mean_follows_the_softened_descent() -> None:
    curvature, gamma = 2.0, 0.5
    end = fast_slow(
        quadratic(torch.tensor([[curvature]], dtype=torch.float64)),
        torch.ones(4000, 1, dtype=torch.float64),
        gamma=gamma,
        beta=1.0,
        epsilon=0.005,
        horizon=1.0,
        step_size=2e-4,
        generator=torch.Generator().manual_seed(0),
    )
    # Of order epsilon off, and the Monte-Carlo error of 4000 paths.
    assert end.mean().item() == pytest.approx(math.exp(-curvature / (1 + gamma * curvature)), abs=0.01)


def test_the_noise_of_the_slow_variable_on_a_quadratic_has_its_closed_form() -> None:
    curvature, gamma, beta, epsilon = 2.0, 0.5, 1.0, 0.2
    drift = torch.tensor([[1 / gamma, -1 / gamma], [-1 / (gamma * epsilon), (curvature + 1 / gamma) / epsilon]])
    noise = torch.diag(torch.tensor([0.0, 2 / (beta * epsilon)]))
    # The stationary covariance S solves the Lyapunov equation A S + S A' = Q, here as a linear system.
    identity = torch.eye(2)
    system = torch.kron(drift, identity) + torch.kron(identity, drift)
    exact = torch.linalg.solve(system, noise.flatten()).reshape(2, 2)[0, 0].item()
    end = fast_slow(
        quadratic(torch.tensor([[curvature]], dtype=torch.float64)),
        torch.zeros(20_000, 1, dtype=torch.float64),
        gamma=gamma,
        beta=beta,
        epsilon=epsilon,
        horizon=6.0,
        step_size=5e-3,
        generator=torch.Generator().manual_seed(0),
    )
    assert end.var().item() == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("name", ["gamma", "beta", "epsilon", "horizon", "step_size"])
def test_a_value_that_is_not_positive_is_refused(name: str) -> None:
    values = dict.fromkeys(["gamma", "beta", "epsilon", "horizon", "step_size"], 1.0) | {name: 0.0}
    with pytest.raises(ConfigError, match=f"{name}=0.0"):
        fast_slow(F2, torch.zeros(1, 1, dtype=torch.float64), generator=torch.Generator(), **values)
