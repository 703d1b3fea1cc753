"""Pictures of a sweep: drawn from what the study says, the same bytes again, and none without matplotlib."""

from __future__ import annotations

import importlib.util
import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from tests.unit.toytasks import TOY
from tests.unit.tuning.sweeps import agreed

from deeprelax.config import RunConfig
from deeprelax.registry import find
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.pictures import draw_pictures, history, parameters, schedules
from deeprelax.tuning.sweep.standing import Standing

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(0.001, 1, log=True),
    "shape": CategoricalDistribution(("constant", "cosine")),
    "fixed": FloatDistribution(0, 1),
}
SHARES = {"lr": 0.75, "shape": 0.25}


def trial(number: int, error: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    made = optuna.trial.create_trial(
        state=state,
        values=[error] if state is TrialState.COMPLETE else None,
        params={"lr": 0.001 * 2**number, "shape": ("constant", "cosine")[number % 2], "fixed": 0.5},
        distributions=SPACE,
        intermediate_values={1: error},
        user_attrs={"cost": {"gradients": 100.0}},
    )
    made.number = number
    made.datetime_complete = datetime(2026, 1, 1) + timedelta(minutes=number)
    return made


def standing() -> Standing:
    errors = [0.5, 0.3, 0.4, 0.2, 0.25, 0.1]
    trials = [*map(trial, range(6), errors), trial(6, 0.01, TrialState.PRUNED)]
    return Standing(trials, ("center/error",), ("minimize",))


def leading() -> list[RunConfig]:
    feasible = Feasible(agreed(run={"epochs": 2.0}), find(TOY))
    fields = [{"lr": "cos(0.1,0)", "rho": "exp(10,1)"}, {"lr": 0.2, "rho": 5.0}, {"lr": 0.1, "rho": "auto(100)"}]
    return [feasible.runs(feasible.requested({"method": "elastic_sgd", "coupling": each}))[0] for each in fields]


def test_every_picture_is_drawn_and_its_bytes_are_the_same_again(tmp_path: Path) -> None:
    files = draw_pictures(tmp_path / "pictures", standing(), SHARES, leading())
    assert [file.name for file in files] == ["history.svg", "parameters.svg", "importances.svg", "schedules.svg"]
    first = [file.read_bytes() for file in files]
    assert all(words.startswith(b"<?xml") for words in first)
    assert [file.read_bytes() for file in draw_pictures(tmp_path / "pictures", standing(), SHARES, leading())] == first


def test_one_trial_without_a_schedule_is_enough_for_a_history(tmp_path: Path) -> None:
    alone = Standing([trial(0, 0.5)], ("center/error",), ("minimize",))
    files = draw_pictures(tmp_path, alone, {}, [])
    assert [file.name for file in files] == ["history.svg"]


def test_without_matplotlib_nothing_is_drawn_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert draw_pictures(tmp_path / "pictures", standing(), SHARES, leading()) == []
    assert not (tmp_path / "pictures").exists()


def test_the_best_so_far_leaves_out_trials_that_were_stopped_early() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    history.draw(figure, standing())
    (left, right) = figure.axes
    best = {line.get_label(): line for line in left.lines}["best so far"]
    assert np.asarray(best.get_ydata()).tolist() == [0.5, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1]
    assert np.asarray(best.get_xdata()).tolist() == [1, 2, 3, 4, 5, 6, 7]
    over = {line.get_label(): line for line in right.lines}["best so far"]
    assert np.asarray(over.get_xdata()).tolist() == [100, 200, 300, 400, 500, 600, 700]
    assert "10.00 %" in figure.get_suptitle()


def test_parameters_that_were_searched_are_shown_by_their_share() -> None:
    assert parameters.searched(standing(), {"shape": 0.9, "lr": 0.1}) == ["shape", "lr"]


def test_curves_are_the_schedules_at_the_steps_of_the_run() -> None:
    first, second, _ = leading()
    found = schedules.curves([first, second, leading()[2]])
    assert found.keys() == {"lr", "rho"}
    assert [curve.rank for curve in found["rho"]] == [0, 1], "a balanced spring is not known before the run"
    curve = found["lr"][0]
    assert (curve.parts[0], curve.parts[-1]) == (0, 1)
    expected = [0.05 * (1 + math.cos(math.pi * part)) for part in curve.parts]
    assert curve.values == pytest.approx(expected)
