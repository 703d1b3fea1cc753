"""The data of the pictures."""

from __future__ import annotations

import pytest
import torch

from deeprelax.pde import F1, F2, AuxiliaryFokkerPlanck, Grid
from deeprelax.pde.checks.dynamics import control_problem
from deeprelax.pde.curves import controlled_against_plain, decay, merging, relaxations

WINDOW = Grid(low=-2.5, high=2.5, points=501)
WIDE = Grid.covering(-10, 10, 0.01)


def test_relaxations_tend_to_the_loss_as_gamma_shrinks() -> None:
    curves = relaxations(F1, [0.4, 0.1, 0.01, 1e-3], beta=2.0, window=WINDOW, grid=WIDE)
    for smoothed in (curves.viscous, curves.non_viscous, curves.heat):
        gaps = (smoothed - curves.loss).abs().amax(-1)
        assert smoothed.shape == (4, 501)
        assert (gaps[1:] < gaps[:-1]).all()
    assert (curves.viscous <= curves.heat + 1e-9).all()
    assert (curves.non_viscous <= curves.loss + 1e-9).all()


def test_merging_never_gains_a_minimum_as_gamma_grows() -> None:
    picture = merging(F1, [0.1, 0.2, 0.4], beta=1.0, window=WINDOW, grid=WIDE)
    assert picture.gammas == (0.0, 0.1, 0.2, 0.4)
    assert [len(minima) for minima in picture.viscous] == [5, 2, 1, 1]
    assert [len(minima) for minima in picture.non_viscous] == [5, 5, 3, 2]


def test_decay_starts_on_its_bound_and_stays_below() -> None:
    grid = Grid.covering(-3, 3, 0.03)
    equation = AuxiliaryFokkerPlanck(potential=F2, x=0.3, gamma=0.1, beta=1.0, grid=grid)
    curve = decay(equation, torch.softmax(-10 * (grid.axis() + 1).square(), -1), horizon=0.5, steps=10)
    assert curve.wasserstein[0] == curve.wasserstein_bound[0]
    assert (curve.wasserstein <= curve.wasserstein_bound).all()
    assert (curve.entropy <= curve.entropy_bound).all()
    assert curve.times[-1].item() == pytest.approx(0.5)


def test_controlled_density_leans_to_the_lower_loss() -> None:
    picture = controlled_against_plain(control_problem(100), 1.0)
    spacing = picture.x[1] - picture.x[0]
    losses = [float((density * picture.terminal).sum() * spacing) for density in (picture.controlled, picture.plain)]
    assert picture.plain.sum().item() * spacing.item() == pytest.approx(1.0)
    assert losses[0] < losses[1]
