"""The inner chain and its exact law."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import ConfigError
from deeprelax.pde import F2, ChainLaw, Grid, InnerChain, LocalEntropy, contraction_rate, quadratic, random_potential

X = torch.tensor([0.3], dtype=torch.float64)
BOWL = quadratic(torch.tensor([[2.0]], dtype=torch.float64))


def chain_on(potential: object = BOWL, **changes: object) -> InnerChain:
    values = {"potential": potential, "x": X, "gamma": 0.5, "beta": 2.0, "inner_lr": 0.05} | changes
    return InnerChain(**values)  # type: ignore[arg-type]


def test_mean_and_variance_on_a_quadratic_follow_the_linear_recursion() -> None:
    chain, steps, paths = chain_on(), 20, 40_000
    path = chain.path(steps=steps, paths=paths, generator=torch.Generator().manual_seed(0)).squeeze(-1)
    keep = 1 - 0.05 * (2 + 1 / 0.5)
    mean, variance = 0.3, 0.0
    for step in range(steps):
        mean = keep * mean + 0.05 * 0.3 / 0.5
        variance = keep**2 * variance + 2 * 0.05 / 2
        assert path[step].mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / paths))
        assert path[step].var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / paths))


def test_without_noise_the_chain_contracts_by_its_factor() -> None:
    chain = chain_on(beta=math.inf)
    path = chain.path(steps=3, paths=1, generator=torch.Generator()).flatten()
    rest = 0.3 / 0.5 / (2 + 1 / 0.5)
    torch.testing.assert_close((path[1:] - rest) / (path[:-1] - rest), torch.full((2,), 0.8, dtype=torch.float64))


def test_the_same_generator_seed_gives_the_same_paths() -> None:
    first, second = (chain_on().path(steps=5, paths=3, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_coupled_paths_keep_the_bound_of_the_curvature_on_random_potentials(seed: int) -> None:
    potential = random_potential(seed)
    gamma = 0.5 / max(1.0, -potential.curvature[0])
    rate = contraction_rate(potential, gamma)
    lr = 0.5 / (potential.curvature[1] + 1 / gamma)
    chain = InnerChain(potential=potential, x=X, gamma=gamma, beta=1.0, inner_lr=lr)
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, 20, 1, generator=generator, dtype=torch.float64)
    distances = chain.coupled_distances(first, second, steps=50, generator=generator)
    assert rate > 0
    assert (distances[1:] <= (1 - lr * rate) * distances[:-1] + 1e-12).all()


def test_law_on_a_quadratic_has_the_variance_of_the_linear_recursion() -> None:
    chain = chain_on()
    grid = Grid.covering(-4, 4, 0.02)
    law = ChainLaw(chain=chain, grid=grid)
    probabilities = law.stationary()
    mean = law.stationary_mean()
    variance = float(probabilities @ (grid.axis() - mean).square())
    keep = 1 - 0.05 * (2 + 1 / 0.5)
    assert mean == pytest.approx(0.3 / 0.5 / 4, abs=1e-9)
    assert variance == pytest.approx(2 * 0.05 / 2 / (1 - keep**2), rel=1e-9)


def test_means_of_the_law_are_those_of_the_sampled_paths() -> None:
    chain = chain_on(F2, gamma=1.0, beta=1.0, inner_lr=0.02)
    steps, paths = 30, 40_000
    means = ChainLaw(chain=chain, grid=Grid.covering(-4, 4, 0.03)).means(0.3, steps)
    path = chain.path(steps=steps, paths=paths, generator=torch.Generator().manual_seed(3)).squeeze(-1)
    errors = (path.mean(1) - means) / (path.std(1) / paths**0.5)
    assert errors.abs().max() < 4.5


def test_law_tends_to_the_gibbs_measure_as_the_step_vanishes() -> None:
    exact = LocalEntropy(potential=F2, gamma=1.0, beta=1.0, grid=Grid.covering(-6, 6, 0.02)).mean(X).item()
    chain = chain_on(F2, gamma=1.0, beta=1.0, inner_lr=0.001)
    mean = ChainLaw(chain=chain, grid=Grid.covering(-3.5, 3.5, 0.02)).stationary_mean()
    assert mean == pytest.approx(exact, abs=4e-4)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gamma": 0.0}, "gamma"),
        ({"beta": -1.0}, "beta"),
        ({"inner_lr": float("nan")}, "inner_lr"),
        ({"noise_factor": 0.0}, "noise_factor"),
        ({"x": torch.zeros(2, dtype=torch.float64)}, "shape"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        chain_on(**changes)


@pytest.mark.parametrize(
    ("chain", "grid", "named"),
    [
        (chain_on(beta=math.inf), Grid.covering(-4, 4, 0.02), "beta=inf"),
        (chain_on(), Grid.covering(-4, 4, 0.5), "Spacing must be <="),
        (chain_on(), Grid.covering(-4, 4, 0.5, dimension=2), "dimension"),
    ],
)
def test_a_law_that_the_grid_cannot_carry_is_refused(chain: InnerChain, grid: Grid, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ChainLaw(chain=chain, grid=grid)


def test_a_chain_that_reaches_the_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match="reaches its ends"):
        ChainLaw(chain=chain_on(), grid=Grid.covering(-0.5, 0.5, 0.02)).stationary()
