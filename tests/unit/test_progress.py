"""What a person sees of a run: a table on a terminal, a line an evaluation elsewhere, nothing on request."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from deeprelax.config import RunConfig
from deeprelax.execution.progress import PlainProgress, Silence, TableProgress, progress

CONFIG = RunConfig(trainable="digits", method="parle", coupling={"replicas": 3}, steps=100)
MOVED = {"step": 10.0, "seconds": 1.0, "passes": 0.2, "train/loss": 2.0, "coupling/gamma": 90.0, "coupling/rho": 9.0}
JUDGED = {
    "step": 50.0, "seconds": 3.0, "passes": 1.0, "center/error": 0.0456, "center/loss": 0.2, "train/loss": 0.51234,
    "replica/spread": 0.0123, "coupling/gamma": 10.0, "coupling/rho": 3.0, "exchange/bytes_total": 2_345_678.0,
}  # fmt: skip


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=160), file


def test_off_a_terminal_an_evaluation_is_one_line() -> None:
    where, file = console(terminal=False)
    display = PlainProgress(CONFIG, where)
    display.moved(MOVED)
    assert file.getvalue() == ""
    display.evaluated(JUDGED)
    # 40 steps of 3 replicas in 2 s, 50 steps left.
    assert file.getvalue() == (
        "epoch 1.0  center error 4.56 %  loss 0.5123  spread 0.0123  γ 10  ρ 3  exchanged 2.35 MB  "
        "gradients/s 60  left 0:00:02\n"
    )


def test_numbers_that_a_method_does_not_have_are_left_out() -> None:
    where, file = console(terminal=False)
    PlainProgress(CONFIG, where).evaluated({"step": 5.0, "passes": 0.5, "center/error": 0.5, "train/loss": math.nan})
    assert file.getvalue() == "epoch 0.5  center error 50.00 %\n"


def test_the_table_has_a_row_an_evaluation_and_one_that_follows_the_run() -> None:
    where, _ = console(terminal=True)
    display = TableProgress(CONFIG, where)
    assert "waiting for the first exchange" in shown(display)
    display.moved(MOVED)
    assert [word in shown(display) for word in ("epoch", "0.2", "4.56 %", "waiting")] == [True, True, False, False]
    display.evaluated(JUDGED)
    display.moved(JUDGED)
    assert shown(display).count("1.0") == 1, "what belongs to the evaluation is not shown a second time"
    display.moved(JUDGED | {"step": 75.0, "passes": 1.5, "seconds": 4.0})
    table = shown(display)
    assert len(table.strip().splitlines()) == 3
    for title in ("epoch", "center error", "loss", "spread", "γ", "ρ", "exchanged", "gradients/s", "left"):
        assert title in table
    display.happened("replica 1: lost at step 75")
    assert "replica 1: lost at step 75" in shown(display)


def shown(display: TableProgress) -> str:
    where, file = console(terminal=False)
    where.print(display._render())
    return file.getvalue()


@pytest.mark.parametrize("show", [True, False])
def test_the_display_suits_standard_error(show: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(CONFIG, show=show) as display:
        display.evaluated(JUDGED)
        display.happened("replica 1: back")
    said = capsys.readouterr()
    assert said.out == ""
    assert isinstance(display, PlainProgress if show else Silence)
    assert (said.err == "") != show
