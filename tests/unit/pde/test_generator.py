"""The birth-death generator of a diffusion."""

from __future__ import annotations

import math

import pytest
import torch

from deeprelax.errors import ConfigError
from deeprelax.pde import F2, Grid, birth_death_generator, fitted_order, transition_matrix

GRID = Grid.covering(-2.5, 2.5, 0.05)
ENERGY = F2(GRID.nodes())


def test_rows_sum_to_zero_and_rates_are_in_detailed_balance() -> None:
    diffusion = 0.7
    rates = birth_death_generator(ENERGY, spacing=GRID.spacing, diffusion=diffusion)
    flow = torch.softmax(-ENERGY / diffusion, -1).unsqueeze(-1) * rates
    assert rates.sum(-1).abs().max() < 1e-10
    torch.testing.assert_close(flow, flow.T, rtol=1e-12, atol=1e-14)


def test_generator_is_of_order_two_in_the_spacing() -> None:
    spacings, errors = (0.2, 0.1, 0.05, 0.025), []
    for spacing in spacings:
        grid = Grid.covering(-1.6, 1.6, spacing)
        x = grid.axis()
        rates = birth_death_generator(F2(grid.nodes()), spacing=grid.spacing, diffusion=1.0)
        exact = -torch.sin(x) - F2.gradient(grid.nodes()).squeeze(-1) * torch.cos(x)
        inner = x.abs() < 1.1
        errors.append(float(((rates @ torch.sin(x)) - exact)[inner].abs().max()))
    assert fitted_order(spacings, errors) == pytest.approx(2.0, abs=0.15)


def test_transition_matrix_is_the_exponential_and_stays_positive() -> None:
    rates = birth_death_generator(ENERGY, spacing=GRID.spacing, diffusion=0.7)
    moved = transition_matrix(rates, 0.1)
    torch.testing.assert_close(moved, torch.matrix_exp(0.1 * rates), rtol=1e-3, atol=1e-6)
    assert moved.min() > 0
    torch.testing.assert_close(moved.sum(-1), torch.ones(GRID.points, dtype=torch.float64))


def test_mean_of_an_ornstein_uhlenbeck_process_decays_at_its_rate() -> None:
    grid = Grid.covering(-6, 6, 0.04)
    rates = birth_death_generator(grid.axis().square(), spacing=grid.spacing, diffusion=0.5)
    means = transition_matrix(rates, 0.3) @ grid.axis()
    inner = grid.axis().abs() < 2
    torch.testing.assert_close(means[inner], math.exp(-2 * 0.3) * grid.axis()[inner], rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("spacing", "diffusion", "named"), [(0.0, 1.0, "spacing"), (0.1, -1.0, "diffusion"), (0.05, 0.01, "too wide")]
)
def test_values_out_of_range_are_refused(spacing: float, diffusion: float, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        birth_death_generator(ENERGY, spacing=spacing, diffusion=diffusion)
