"""The process of a trial: it takes one configuration after the other, and what a trial raises does not end it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.toytasks import TOY, ToyConfig, toy

from deeprelax.config import RunConfig
from deeprelax.reference import refer
from deeprelax.tuning.sweep.trial import Given, SweepTrial, TrialConfig


def trial_config(number: int, *seeds: int, epochs: float = 2, **config: Any) -> TrialConfig:
    first = RunConfig(
        trainable=TOY, trainable_config=ToyConfig(**config).model_dump(), method="sgd", epochs=epochs, threads=1,
        placement="local", holdout=0.25,
    )  # fmt: skip
    resolved = first.resolved(first.judged(toy(ToyConfig(**config))))
    runs = [resolved.with_fields(seed=seed).job() for seed in seeds or (0,)]
    return TrialConfig(number=number, runs=json.dumps(runs))


def given(folder: Path) -> Given:
    reference = refer(toy)
    return {
        "reference": {"path": reference.path, "source_hash": reference.source_hash, "source": reference.source},
        "folder": str(folder),
    }


@pytest.fixture
def process(tmp_path: Path) -> SweepTrial:
    found = SweepTrial.__new__(SweepTrial)
    found.setup(trial_config(0), given(tmp_path))
    return found


def to_the_end(process: SweepTrial) -> list[dict[str, object]]:
    rows = [process.step()]
    while not rows[-1]["done"]:
        rows.append(process.step())
    return rows


def values(rows: list[dict[str, object]]) -> list[object]:
    return [(row["center/loss"], row["passes"], row["bytes_exchanged"]) for row in rows]


def test_every_evaluation_is_a_step_and_the_last_one_says_that_it_is(process: SweepTrial) -> None:
    rows = to_the_end(process)
    assert [row["passes"] for row in rows] == [1.0, 2.0]
    assert [row["finished"] for row in rows] == [False, True]
    assert rows[-1]["gradients"] == 2 * 9


def test_a_reused_process_gives_the_numbers_of_a_new_one(process: SweepTrial, tmp_path: Path) -> None:
    process.step()  # stopped early
    assert process.reset_config(trial_config(1, 5, dropout=0.3))
    again = to_the_end(process)
    new = SweepTrial.__new__(SweepTrial)
    new.setup(trial_config(2, 5, dropout=0.3), given(tmp_path))
    assert values(again) == values(to_the_end(new))
    assert (tmp_path / "00001/seed-5/result.json").is_file()


def test_what_a_trial_raises_is_its_result_and_the_next_one_runs(process: SweepTrial) -> None:
    process.reset_config(trial_config(1, poisoned=True))
    (row,) = to_the_end(process)
    assert row["diverged"] is True
    assert str(row["failed"]).startswith("The loss of replica 0 is nan at step ")

    process.reset_config(TrialConfig(number=2, runs=json.dumps([{"trainable": TOY, "threads": 1, "epochs": -1}])))
    (row,) = to_the_end(process)
    assert row["diverged"] is False
    assert "Invalid epochs=-1" in str(row["failed"])

    process.reset_config(trial_config(3))
    assert to_the_end(process)[-1]["finished"] is True


def test_code_that_differs_on_the_worker_is_why_the_trial_failed(tmp_path: Path) -> None:
    process = SweepTrial.__new__(SweepTrial)
    there = given(tmp_path)
    there["reference"]["source_hash"] = "another"
    process.setup(trial_config(0), there)
    (row,) = to_the_end(process)
    assert "differs from the driver's" in str(row["failed"])


def test_standard_errors_are_reported_for_several_seeds(process: SweepTrial) -> None:
    process.reset_config(trial_config(1, 1, 2, 3))
    last = to_the_end(process)[-1]
    assert json.loads(str(last["standard_errors"]))["center/loss"] > 0
    assert last["gradients"] == 3 * 2 * 9
