"""The mean-field limit where it is known, and against very many replicas."""

from __future__ import annotations

import pytest
import torch

from deeprelax.errors import ConfigError
from deeprelax.pde import F2, Grid, quadratic
from deeprelax.pde.mean_field import MeanField

LR, NOISE, PULL = 0.05, 3.0, 0.25
GRID = Grid.covering(-4, 4, 0.05)


def test_on_a_quadratic_the_mean_feels_no_pull() -> None:
    bowl = quadratic(torch.tensor([[2.0]], dtype=torch.float64))
    means = MeanField(potential=bowl, lr=LR, noise=NOISE, pull=PULL, grid=GRID).means(1.5, 12)
    exact = 1.5 * (1 - 2 * LR) ** torch.arange(1, 13, dtype=torch.float64)
    torch.testing.assert_close(means, exact, rtol=0, atol=1e-9)


def test_very_many_replicas_have_its_mean() -> None:
    steps, count = 10, 200_000
    means = MeanField(potential=F2, lr=LR, noise=NOISE, pull=PULL, grid=GRID).means(0.8, steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.full((count, 1), 0.8, dtype=torch.float64)
    for step in range(steps):
        noise = NOISE * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = x - LR * (F2.gradient(x) + noise) - PULL * (x - x.mean())
        assert x.mean().item() == pytest.approx(means[step].item(), abs=5 * x.std().item() / count**0.5)


def test_a_grid_that_the_law_leaves_or_that_is_too_wide_is_refused() -> None:
    with pytest.raises(ConfigError, match="reaches its ends"):
        MeanField(potential=F2, lr=LR, noise=NOISE, pull=PULL, grid=Grid.covering(-1, 1, 0.05)).means(0.8, 5)
    with pytest.raises(ConfigError, match="Spacing must be"):
        MeanField(potential=F2, lr=LR, noise=NOISE, pull=PULL, grid=Grid.covering(-4, 4, 0.2))
    with pytest.raises(ConfigError, match="dimension"):
        MeanField(potential=F2, lr=LR, noise=NOISE, pull=PULL, grid=Grid.covering(-4, 4, 0.05, dimension=2))
