"""What a person sees of a sweep, and which trial is called the best."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial as TuneTrial
from rich.console import Console

from deeprelax.config import RunConfig
from deeprelax.tuning.study.terms import Direction
from deeprelax.tuning.sweep.display import Board, Lines, LiveTable, Silent, shown, written
from deeprelax.tuning.sweep.schedulers import PBT, SCHEDULERS, make_scheduler
from deeprelax.tuning.sweep.standing import Standing

RUN = RunConfig(trainable="digits", method="parle", coupling={"period": 7, "gamma": "exp(100,1)"})
RESULT = {"center/error": 0.0208, "seconds": 3.25}


def console() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=160), file


def board(counts: Mapping[str, int] | None = None, **fields: Any) -> Board:
    settings: dict[str, Any] = {
        "metrics": ("center/error",), "trials": 10, "done": 0, "count": lambda: counts or {}, "best": lambda: "trial 3",
    } | fields  # fmt: skip
    return Board(**settings)


def test_off_a_terminal_a_trial_that_has_ended_is_one_line() -> None:
    where, file = console()
    lines = Lines(board(), where)
    lines.begun(4)
    assert file.getvalue() == ""
    lines.ended(4, "complete", "", RESULT, RUN)
    lines.ended(5, "failed", "The loss is nan.\nmore", {}, RUN)
    lines.ended(6, "infeasible", "too stiff", {}, None)
    assert file.getvalue().splitlines() == [
        "trial 4  complete  center/error 2.08 %  3.2 s  parle period=7 gamma=exp(100,1)",
        "trial 5  failed  parle period=7 gamma=exp(100,1)  The loss is nan.",
    ]


def test_the_table_shows_outcomes_the_best_and_the_last_trials() -> None:
    counts = {"complete": 3, "pruned": 1, "failed": 0, "waiting": 4, "running": 2, "asked": 10}
    where, file = console()
    table = LiveTable(board(counts), where)
    table.begun(4)
    table.ended(4, "complete", "", RESULT, RUN)
    table.ended(5, "infeasible", "too stiff", {}, None)
    where.print(table.render())
    text = file.getvalue()
    for words in ("4 of 10 trials", "3 complete", "1 pruned", "2 running", "best: trial 3", "2.08 %", "period=7"):
        assert words in text
    assert "0 failed" not in text
    assert "too stiff" not in text


def test_the_table_keeps_its_numbers_where_parameters_are_long() -> None:
    file = io.StringIO()
    where = Console(file=file, width=80)
    table = LiveTable(board(), where)
    table.ended(12, "pruned", "asha: center/error 0.02 after 3.0 passes; " + "why " * 50, RESULT, RUN)
    table.ended(13, "complete", "", RESULT, RUN.with_fields(coupling={f"{'x' * 90}": 1}))
    where.print(table.render())
    rows = [line.split() for line in file.getvalue().splitlines()[3:]]
    assert [row[:4] for row in rows] == [["12", "pruned", "2.08", "%"], ["13", "complete", "2.08", "%"]]
    assert max(map(len, file.getvalue().splitlines())) <= 80


def test_the_time_left_follows_the_pace_and_the_deadline() -> None:
    one = board()
    assert one.left_s(0) is None
    one.begun(0)
    one._began = time.monotonic() - 20.0
    assert one.left_s(5) == pytest.approx(20.0, abs=1.0)
    one.ends = time.monotonic() + 7.0
    assert one.left_s(5) == pytest.approx(7.0, abs=1.0)
    assert one.left_s(0) == pytest.approx(7.0, abs=1.0)


@pytest.mark.parametrize("show", [True, False])
def test_the_display_suits_standard_error(show: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with shown(board(), show=show) as display:
        display.begun(1)
        display.ended(1, "complete", "", RESULT, RUN)
    said = capsys.readouterr()
    assert said.out == ""
    assert isinstance(display, Lines if show else Silent)
    assert (said.err == "") != show


def test_values_are_written_as_a_person_reads_them() -> None:
    assert [written("center/error", 0.0104), written("bytes_exchanged", 2.5e6), written("center/loss", 0.12345)] == [
        "1.04 %", "2.50 MB", "0.1235",
    ]  # fmt: skip


def trial(number: int, *values: float, loss: float = 0.0, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    made = optuna.trial.create_trial(
        state=state, values=list(values) or None, user_attrs={"cost": {"center/loss": loss, "gradients": 5.0}}
    )
    made.number = number
    return made


def standing(*trials: FrozenTrial, directions: tuple[Direction, ...] = ("minimize",)) -> Standing:
    return Standing(trials, tuple("abc"[: len(directions)]), directions)


def test_the_best_trial_of_equal_ones_has_the_smaller_loss_and_then_came_first() -> None:
    best = standing(trial(0, 0.2), trial(1, 0.1, loss=0.5), trial(2, 0.1, loss=0.4), trial(3, 0.1, loss=0.4)).best
    assert best is not None
    assert best.number == 2


def test_only_trials_that_were_trained_to_their_end_can_be_the_best() -> None:
    unfinished = trial(0, state=TrialState.RUNNING), trial(1, 0.0, state=TrialState.PRUNED)
    assert standing(*unfinished).best is None
    finished = trial(2, 5.0)
    assert standing(*unfinished, finished).best is finished
    assert standing(*unfinished).gradients == 10.0


def test_what_is_maximized_is_best_where_it_is_large() -> None:
    best = standing(trial(0, 0.2), trial(1, 0.9), directions=("maximize",)).best
    assert best is not None
    assert best.number == 1


def test_the_front_holds_what_nothing_is_better_than_in_everything() -> None:
    trials = trial(0, 0.1, 5.0), trial(1, 0.2, 9.0), trial(2, 0.3, 2.0), trial(3, 0.1, 9.0), trial(4, 0.3, 9.0)
    found = standing(*trials, directions=("minimize", "maximize")).front
    assert [one.number for one in found] == [3]
    found = standing(*trials, directions=("minimize", "minimize")).front
    assert [one.number for one in found] == [0, 2]


@pytest.mark.parametrize("name", list(SCHEDULERS))
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_every_scheduler_can_be_made(name: str, direction: Direction) -> None:
    made = make_scheduler(name, "center/error", direction)
    assert (made is None) == (name in ("none", PBT)), "pbt's is made with its population"


def test_asha_stops_the_worst_at_its_rungs_and_lets_a_good_trial_train_as_long_as_it_is() -> None:
    scheduler = make_scheduler("asha", "loss", "minimize")
    assert scheduler is not None
    controller: Any = None  # it asks the controller nothing
    trials = [TuneTrial("stub", stub=True, trial_id=str(number)) for number in range(4)]
    for trial in trials:
        scheduler.on_trial_add(controller, trial)

    def says(number: int, passes: float, loss: float) -> str:
        said: str = scheduler.on_trial_result(controller, trials[number], {"passes": passes, "loss": loss})
        return said

    assert [says(number, 1.0, loss) for number, loss in enumerate([0.1, 0.2, 0.3])] == ["CONTINUE", "STOP", "STOP"]
    assert says(3, 0.5, 9.0) == "CONTINUE", "before its first pass nothing is stopped"
    assert [says(0, passes, 0.1) for passes in (3.0, 30.0, 3000.0)] == ["CONTINUE"] * 3
