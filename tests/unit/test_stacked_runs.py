"""Vectorized runs: chosen, refused, stopped, resumed, and several of them at once."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.unit.interruptions import (
    WITHOUT_BATCHNORM,
    assert_same_run,
    checkpoints_of,
    continued,
    coupling_of,
    train,
    train_interrupted,
)
from tests.unit.stacks import in_float64
from tests.unit.toytasks import EVERYTHING, TOY, ToyConfig, at_batch, toy
from torch import Tensor

from deeprelax.cli import main
from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, DivergedError
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.local import local_rounds, restored_rounds
from deeprelax.execution.local_run import LocalRun
from deeprelax.execution.progress import Silence
from deeprelax.execution.recorder import Recorder
from deeprelax.execution.result import RunResult
from deeprelax.execution.stacked import run_stacked
from deeprelax.execution.store import RunStore
from deeprelax.replica.checkpoint import newest, read_tensors
from deeprelax.replica.task import Task

ALWAYS: dict[str, Any] = {"config": WITHOUT_BATCHNORM, "vectorize": "always"}


def said(result: RunResult) -> list[dict[str, object]]:
    return RunStore(result.run_dir).rows("vectorize")


# One run.


def test_a_vectorized_run_is_the_run_to_rounding_and_says_so(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", **coupling_of("parle"), config=WITHOUT_BATCHNORM)
    together = train(tmp_path / "together", **coupling_of("parle"), **ALWAYS)
    left, right = alone.state_dict(), together.state_dict()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-5)
    assert together.metrics == pytest.approx(alone.metrics, rel=1e-4)
    assert len(together.telemetry()) == len(alone.telemetry())
    assert together.cost["bytes_exchanged"] == alone.cost["bytes_exchanged"] > 0
    (row,) = said(together)
    assert row.items() >= {"step": 0, "vectorized": True, "reason": None}.items()
    assert said(alone) == []


def test_a_vectorized_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **coupling_of("parle"), **ALWAYS)
    train_interrupted(tmp_path / "parts", **coupling_of("parle"), **ALWAYS, after=12)
    assert_same_run(continued(tmp_path / "parts"), whole)


def test_an_interrupt_saves_a_vectorized_run_at_the_next_exchange(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **coupling_of("parle"), **ALWAYS)
    begun = (tmp_path / "parts" / "events.jsonl").exists
    with at_batch(3 * 22, lambda: signal.raise_signal(signal.SIGINT), begun=begun):
        stopped = train(tmp_path / "parts", **coupling_of("parle"), **ALWAYS)
    assert stopped.stopped
    assert [path.name for path in checkpoints_of(tmp_path / "parts")] == ["step-00000015", "step-00000025"]
    assert_same_run(continued(tmp_path / "parts"), whole)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"config": EVERYTHING, **coupling_of("parle", replicas=8)}, "changes the buffer"),
        ({"coupling": "sgd"}, "its one replica has no other"),
        (coupling_of("parle", replicas=7), "it has 7 replicas, and below 8 it does not always pay"),
    ],
    ids=["batchnorm", "one replica", "few replicas"],
)
def test_auto_falls_back_to_the_same_run_and_logs_why_once(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    settings = {"config": WITHOUT_BATCHNORM, "epochs": 1, **fields}
    usual = train(tmp_path / "usual", **settings)
    fallen = train(tmp_path / "fallen", vectorize="auto", **settings)
    assert_same_run(fallen, usual)
    (row,) = said(fallen)
    assert row["vectorized"] is False
    assert words in str(row["reason"])


def test_auto_leaves_a_large_model_alone_and_vectorizes_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"config": WITHOUT_BATCHNORM, "epochs": 1, "vectorize": "auto", **coupling_of("parle", replicas=8)}
    small = train(tmp_path / "small", **settings)
    monkeypatch.setattr("deeprelax.execution.stacked.PAYS_BELOW_PARAMETERS", 20)
    large = train(tmp_path / "large", **settings)
    assert [row["vectorized"] for row in (*said(small), *said(large))] == [True, False]
    assert "its model has 83 parameters" in str(said(large)[0]["reason"])


def test_always_is_an_error_where_it_cannot_be_and_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Invalid vectorize='always': its forward changes the buffer .* Use 'auto'"):
        train(tmp_path / "run", **coupling_of("parle"), vectorize="always")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--vectorize", "always"], "Must be 'auto' or 'never' on Ray"), (["--vectorize", "yes"], "'never', 'auto' or")],
)
def test_the_command_line_refuses_what_cannot_be(arguments: list[str], words: str, tmp_path: Path) -> None:
    asked = CliRunner().invoke(main, ["fit", TOY, "--run-dir", str(tmp_path / "run"), *arguments])
    assert asked.exit_code != 0
    assert words in asked.output
    assert not (tmp_path / "run").exists()


def test_the_command_line_vectorizes(tmp_path: Path) -> None:
    words = ["fit", TOY, "--local", "--vectorize", "always", "--steps", "10", "--run-dir", str(tmp_path), "--json"]
    asked = CliRunner().invoke(main, words)
    assert asked.exit_code == 0, asked.output
    assert json.loads((tmp_path / "events.jsonl").read_text())["vectorized"] is True


def test_the_command_line_says_why_it_does_not_vectorize(tmp_path: Path) -> None:
    words = ["fit", TOY, "--local", "--vectorize", "auto", "--steps", "5", "--run-dir", str(tmp_path)]
    asked = CliRunner().invoke(main, words)
    assert asked.exit_code == 0, asked.output
    assert "replicas one by one: it has 3 replicas, and below 8 it does not always pay" in asked.output


# Several runs.


class Recorded:
    """A run of the small task in a folder of its own."""

    def __init__(self, folder: Path, task: Task, fields: dict[str, Any]) -> None:
        common = {"trainable": TOY, "placement": "local", "steps": 30, "seed": 3, "method": "parle"}
        self.config = RunConfig(**(common | fields)).resolved(task, force=True)
        self.store = RunStore.create(folder, self.config, folder)
        self.recorder = Recorder(self.store, self.config, Silence())
        self.local = LocalRun(
            config=self.config,
            checkpoints=self.store.checkpoints,
            emit=self.recorder.take,
            rounds=restored_rounds(self.store.checkpoints),
        )

    def final(self) -> dict[str, Tensor]:
        saved = newest(self.store.checkpoints)
        assert saved is not None
        files = sorted(saved.path.glob("*.safetensors"))
        return {f"{file.stem}.{key}": value for file in files for key, value in read_tensors(file).items()}


def parle(**fields: Any) -> dict[str, Any]:
    return {"coupling": {"replicas": 3, "period": 5, "lr": 0.05} | fields}


DIFFERENT: list[dict[str, Any]] = [
    parle(),
    parle(lr=0.01, gamma=3.0, rho=0.7),
    {**parle(optimizer="adam", lr=0.01), "seed": 4, "steps": 20},
    {**parle(replicas=2), "batch_size": 5, "clip_norm": 1.0},
    {"method": "diloco", "coupling": {"replicas": 2, "period": 7, "lr": 0.05}},
    {"method": "entropy_sgd", "coupling": {"period": 5, "lr": 0.05, "beta": 1e4}},
    {"method": "sgd", "coupling": {"lr": 0.1}, "accumulate": 2},
]


def double_toy() -> Task:
    return in_float64(toy(ToyConfig(dropout=0.2, augment=True, frozen=True)))


def alone(folder: Path, task: Task, fields: dict[str, Any]) -> Recorded:
    run = Recorded(folder, task, fields)
    for _ in local_rounds(task, run.config, run.store.checkpoints, run.recorder.take, run.local.rounds):
        pass
    return run


def assert_alike(one: Recorded, other: Recorded) -> None:
    left, right = one.final(), other.final()
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name].double(), right[name].double(), rtol=1e-11, atol=1e-13, msg=name)
    assert one.recorder.evaluation["center/loss"] == pytest.approx(other.recorder.evaluation["center/loss"])
    rows = [run.store.rows("telemetry") for run in (one, other)]
    assert len(rows[0]) == len(rows[1]) > 0


def test_runs_that_differ_in_all_but_the_task_are_each_as_alone(tmp_path: Path) -> None:
    task = double_toy()
    runs = [Recorded(tmp_path / f"together-{i}", task, fields) for i, fields in enumerate(DIFFERENT)]
    progress = list(run_stacked(task, [run.local for run in runs]))
    assert sorted(row.run for row in progress if row.ended) == list(range(len(runs)))
    assert all(row.error is None for row in progress)
    for i, run in enumerate(runs):
        assert_alike(run, alone(tmp_path / f"alone-{i}", task, DIFFERENT[i]))
        joined_and_exchanged = 1 + run.local.rounds.exchanges
        assert sum(row.run == i and not row.ended for row in progress) == joined_and_exchanged


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "entropy_sgd", "coupling": {"period": 5, "lr": 0.05, "beta": 1e3}},
        {"method": "heat", "coupling": {"period": 4, "lr": 0.05, "beta": 1e3}},
        {"method": "hj", "coupling": {"variant": "fixed_point", "gamma": 0.1, "lr": 0.05}},
        {"method": "lookahead", "coupling": {"period": 5, "lr": 0.05, "optimizer": "adam"}},
    ],
    ids=lambda fields: fields["method"],
)
def test_runs_that_differ_in_the_seed_move_together_and_draw_their_own_noise(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    task = double_toy()
    runs = [Recorded(tmp_path / f"together-{seed}", task, {**fields, "seed": seed}) for seed in range(3)]
    assert all(row.error is None for row in run_stacked(task, [run.local for run in runs]))
    for seed, run in enumerate(runs):
        assert_alike(run, alone(tmp_path / f"alone-{seed}", task, {**fields, "seed": seed}))


def test_a_run_that_diverges_ends_alone(tmp_path: Path) -> None:
    task = double_toy()
    fields = [parle(), parle(lr=1e200), parle(lr=0.01)]
    runs = [Recorded(tmp_path / f"together-{i}", task, one) for i, one in enumerate(fields)]
    ended = {row.run: row.error for row in run_stacked(task, [run.local for run in runs]) if row.ended}
    assert isinstance(ended[1], DivergedError)
    assert ended[0] is ended[2] is None
    for i in (0, 2):
        assert_alike(runs[i], alone(tmp_path / f"alone-{i}", task, fields[i]))


def test_a_run_that_is_stopped_saves_and_can_go_on_while_the_others_train(tmp_path: Path) -> None:
    task = double_toy()
    runs = [Recorded(tmp_path / f"together-{i}", task, parle(lr=0.05 / (i + 1))) for i in range(3)]
    for row in run_stacked(task, [run.local for run in runs]):
        if row.run == 1 and runs[1].local.rounds.step == 10:
            runs[1].local.rounds.stop = True
    assert [run.local.rounds.step for run in runs] == [30, 15, 30]
    assert [run.local.stopped for run in runs] == [False, True, False]
    rest = Recorder(runs[1].store, runs[1].config, Silence())
    rounds: Rounds = restored_rounds(runs[1].store.checkpoints)
    for _ in local_rounds(task, runs[1].config, runs[1].store.checkpoints, rest.take, rounds):
        pass
    runs[1].recorder.evaluation = rest.evaluation
    for i, run in enumerate(runs):
        assert_alike(run, alone(tmp_path / f"alone-{i}", task, parle(lr=0.05 / (i + 1))))


def test_runs_that_cannot_be_computed_together_are_refused(tmp_path: Path) -> None:
    task = toy(ToyConfig(batchnorm=True))
    runs: Sequence[LocalRun] = [Recorded(tmp_path, task, parle()).local]
    with pytest.raises(ConfigError, match="These runs cannot be computed together: its forward changes the buffer"):
        next(run_stacked(task, runs))
