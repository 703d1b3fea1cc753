"""A run that was interrupted and resumed is the run that was not, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.interruptions import (
    PASSES,
    PERIOD,
    STEPS_PER_PASS,
    Row,
    assert_same_run,
    checkpoints_of,
    continued,
    coupling_of,
    forget_after_first_checkpoint,
    numbers,
    train,
    train_interrupted,
)
from tests.unit.toytasks import InterruptError, at_batch, interrupt

from deeprelax.coupling import METHODS
from deeprelax.coupling.inner import OPTIMIZERS
from deeprelax.schedules import Position
from deeprelax.schedules.text import parse


def text_file(folder: Path) -> Path:
    file = folder / "text.txt"
    file.write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return file


@pytest.mark.parametrize("method", METHODS)
def test_every_coupling_resumes_bit_for_bit(method: str, tmp_path: Path) -> None:
    # With BatchNorm, dropout, augmentation, a frozen weight and clipping.
    whole = train(tmp_path / "whole", **coupling_of(method))
    train_interrupted(tmp_path / "parts", **coupling_of(method))
    assert_same_run(continued(tmp_path / "parts"), whole)


VARIANTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("parle", {"batchnorm": "average", "outer_momentum": 0.5, "outer_lr": 0.5}, {}),
    ("parle", {"batchnorm": "local", "data": "shards", "start": "independent"}, {}),
    ("parle", {"spring": "decoupled", "momentum_policy": "reset", "start": "noise"}, {"accumulate": 2}),
    ("parle", {"consensus": "averaged", "averaging": 0, "data": "overlap"}, {"precision": "bf16"}),
    ("parle", {"rho": "auto(100)"}, {}),
    ("entropy_sgd", {"beta": 1e3}, {}),
    ("hj", {"variant": "fixed_point", "gamma": 0.1}, {}),
    ("local_sgd", {"period": "lin(2,9)"}, {}),
    *(("parle", {"optimizer": name, "lr": 0.01}, {}) for name in OPTIMIZERS),
]


@pytest.mark.parametrize(("method", "fields", "run"), VARIANTS, ids=str)
def test_every_policy_and_optimizer_resumes_bit_for_bit(
    method: str, fields: dict[str, Any], run: dict[str, Any], tmp_path: Path
) -> None:
    settings = coupling_of(method, **fields) | run
    whole = train(tmp_path / "whole", **settings)
    train_interrupted(tmp_path / "parts", **settings)
    assert_same_run(continued(tmp_path / "parts"), whole)


def test_a_transformer_with_adamw_and_tied_weights_resumes_bit_for_bit(tmp_path: Path) -> None:
    small = {"text": str(text_file(tmp_path)), "context": 8, "width": 8, "heads": 2, "layers": 1, "dropout": 0.1}
    settings = {"config": small, "epochs": 3, "steps": None} | coupling_of("parle", replicas=2)
    whole = train(tmp_path / "whole", "char_lm", **settings)
    run_dir = tmp_path / "parts"
    train(run_dir, "char_lm", **settings)
    forget_after_first_checkpoint(run_dir)
    resumed = continued(run_dir)
    assert resumed.config.make_coupling().optimizer == "adamw"
    assert_same_run(resumed, whole)


def test_a_run_may_be_interrupted_more_than_once(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **coupling_of("parle"))
    train_interrupted(tmp_path / "parts", **coupling_of("parle"))
    with at_batch(50, interrupt), pytest.raises(InterruptError):
        continued(tmp_path / "parts")
    resumed = continued(tmp_path / "parts")
    assert_same_run(resumed, whole)
    assert resumed.cost["bytes_exchanged"] >= whole.cost["bytes_exchanged"]


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    settings = coupling_of("parle") | {"report": ("replicas", "ensemble")}
    whole = train(tmp_path / "run", **settings)
    rows = [numbers(whole.history()), numbers(whole.telemetry()), judged_at_the_end(tmp_path / "run")]
    assert len(rows[2]) == 4
    again = continued(tmp_path / "run")
    assert again.metrics == whole.metrics
    assert [numbers(again.history()), numbers(again.telemetry()), judged_at_the_end(tmp_path / "run")] == rows


def judged_at_the_end(run_dir: Path) -> list[Row]:
    return numbers([json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()])


def test_the_counters_of_schedules_go_on_where_they_were(tmp_path: Path) -> None:
    fields = {"gamma": "exp(100,1)", "rho": "exp(10,1,exchanges=12)", "outer_lr": "lin(1,0.5,passes=5)"}
    train_interrupted(tmp_path / "run", **coupling_of("parle", **fields))
    rows = continued(tmp_path / "run").telemetry()
    total = PASSES * STEPS_PER_PASS
    assert {row["step"] for row in rows} == {5, 30, 55, total}
    for row in rows:
        here = Position(
            step=int(str(row["step"])),
            exchanges=int(str(row["exchanges"])),
            steps_per_pass=STEPS_PER_PASS,
            total_steps=total,
        )
        assert here.exchanges == here.step // PERIOD
        for name, text in fields.items():
            assert row[f"coupling/{name}"] == parse(text).at(here)


def test_a_spring_balanced_before_the_interruption_keeps_its_measured_stiffness(tmp_path: Path) -> None:
    train_interrupted(tmp_path / "run", after=60, **coupling_of("rsgd"))
    bases = [base_of(path) for path in checkpoints_of(tmp_path / "run")]
    assert bases[-1] > 0
    rows = {int(str(row["step"])): row["coupling/rho"] for row in continued(tmp_path / "run").telemetry()}
    assert base_of(checkpoints_of(tmp_path / "run")[-1]) == bases[-1]
    total = PASSES * STEPS_PER_PASS
    for step in (51, total):
        assert rows[step] == pytest.approx(1 / (bases[-1] * 1e4 ** (step / total)), rel=1e-12)


def base_of(checkpoint: Path) -> float:
    coupling = json.loads((checkpoint / "replica-001.json").read_text())["coupling"]
    return parse(coupling["rho"]).base or 0.0
