"""Counting local minima."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deeprelax.pde import F1, F2, Grid, local_minima

WINDOW = Grid(low=-2.5, high=2.5, points=5001)


def test_both_wells_of_f2_are_found() -> None:
    torch.testing.assert_close(local_minima(F2, WINDOW), torch.tensor([-1.0, 1.0], dtype=torch.float64))


def test_f1_has_five_minima_where_its_slope_vanishes() -> None:
    minima = local_minima(F1, WINDOW)
    assert len(minima) == 5
    assert F1.gradient(minima.unsqueeze(-1)).abs().max() < 62 * WINDOW.spacing


def test_a_flat_bottom_counts_once_and_a_flat_shoulder_not_at_all() -> None:
    def bottom(x: Tensor) -> Tensor:
        return (x.abs() - 1).clamp(min=0).squeeze(-1)

    def shoulder(x: Tensor) -> Tensor:
        return torch.where(x < 0, x, (x - 1).clamp(min=0)).squeeze(-1)

    assert len(local_minima(bottom, WINDOW)) == 1
    assert len(local_minima(shoulder, WINDOW)) == 0


def test_the_ends_of_the_window_do_not_count() -> None:
    assert local_minima(lambda x: torch.cos(2 * math.pi * x / 5).squeeze(-1), WINDOW).tolist() == []
