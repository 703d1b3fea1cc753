"""Paused runs: they go on bit for bit, in any process, and as another trial's run under other schedules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.toytasks import TOY, ToyConfig, toy

from deeprelax import fit
from deeprelax.config import RunConfig
from deeprelax.coupling.methods import make_coupling
from deeprelax.errors import CheckpointError
from deeprelax.execution.store import RunStore
from deeprelax.replica.checkpoint import newest, read_json
from deeprelax.replica.task import Task
from deeprelax.tuning.sweep.pausing import CLONED, clone, paused_configs, run_folder, step_of
from deeprelax.tuning.sweep.replication import Judgement, Replication

CONFIG = ToyConfig(dropout=0.2, augment=True, batchnorm=True)
COUPLINGS: dict[str, dict[str, Any]] = {
    "parle": {"replicas": 2, "period": 4, "lr": "cos(0.1,0)", "rho": "exp(4,2)"},
    "elastic_sgd": {"replicas": 2, "lr": 0.1, "rho": 1.0},
    "sgd": {"lr": 0.1},
}


def task_and_configs(method: str, *seeds: int, **changes: Any) -> tuple[Task, list[RunConfig]]:
    first = RunConfig(
        trainable=TOY, trainable_config=CONFIG.model_dump(), method=method, coupling=COUPLINGS[method] | changes,
        placement="local", checkpoint_every=0.0, keep_checkpoints=1, epochs=3, threads=1, holdout=0.25,
    )  # fmt: skip
    task = first.judged(toy(CONFIG))
    return task, [first.resolved(task).with_fields(seed=seed) for seed in seeds]


def pausing(task: Task, configs: list[RunConfig], folder: Path, **how: bool) -> Replication:
    return Replication(task, configs, folder, pauses=True, **how)


def pausing_to_the_end(task: Task, configs: list[RunConfig], folder: Path, *, resumes: bool = False) -> list[Judgement]:
    found = [pausing(task, configs, folder, resumes=resumes).advance()]
    while not found[-1].finished:
        found.append(pausing(task, configs, folder, resumes=True).advance())
    return found


@pytest.mark.parametrize("method", COUPLINGS)
def test_a_run_that_pauses_at_every_evaluation_has_the_numbers_of_one_that_does_not(
    method: str, tmp_path: Path
) -> None:
    task, configs = task_and_configs(method, 7, 8)
    paused = pausing_to_the_end(task, configs, tmp_path / "paused")
    straight = Replication(*task_and_configs(method, 7, 8), tmp_path / "straight")
    alone = [straight.advance() for _ in paused]

    assert [one.paused for one in paused] == [True, True, False]
    assert alone[-1].finished
    names = [name for name in alone[0].values if name.startswith("center/") or name == "passes"]
    assert [[one.values[name] for name in names] for one in paused] == [
        [one.values[name] for name in names] for one in alone
    ]
    assert [one.gradients for one in paused] == [one.gradients for one in alone]
    seconds = [one.values["seconds"] for one in paused]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_a_paused_run_keeps_one_checkpoint_and_an_ended_one_none(tmp_path: Path) -> None:
    task, configs = task_and_configs("parle", 7)
    run = run_folder(tmp_path, 7)
    for _ in range(2):
        assert pausing(task, configs, tmp_path, resumes=run.exists()).advance().paused
        assert len(list((run / "checkpoints").iterdir())) == 1
    assert pausing(task, configs, tmp_path, resumes=True).advance().finished
    assert not (run / "checkpoints").exists()
    pausing_to_the_end(task, configs, tmp_path / "again")
    kept = pausing(task, configs, tmp_path / "kept", keeps=True)
    while not kept.advance().finished:
        kept = pausing(task, configs, tmp_path / "kept", resumes=True, keeps=True)
    saved = newest(run_folder(tmp_path / "kept", 7) / "checkpoints")
    assert saved is not None
    assert saved.step == configs[0].steps


@pytest.mark.parametrize("method", ["parle", "elastic_sgd"])
def test_a_clone_under_a_staged_schedule_has_the_numbers_of_a_fit_under_it(method: str, tmp_path: Path) -> None:
    task, configs = task_and_configs(method, 7)
    better, worse = tmp_path / "better", tmp_path / "worse"
    pausing(task, configs, better).advance()
    pausing(*task_and_configs(method, 7, lr=0.01), worse).advance()
    lr = make_coupling(method, COUPLINGS[method]).schedules()["lr"]
    assert configs[0].steps is not None
    staged = lr.then(step_of(run_folder(better, 7)) / configs[0].steps, lr.scaled(1.7))
    _, changed = task_and_configs(method, 7, lr=staged)

    clone(run_folder(better, 7), run_folder(worse, 7), changed[0], {"trial": 3})
    assert paused_configs(worse, [7]) == changed
    cloned = pausing_to_the_end(task, changed, worse, resumes=True)
    replayed = fit(
        TOY, coupling=make_coupling(method, COUPLINGS[method] | {"lr": staged}), config=CONFIG.model_dump(),
        local=True, run_dir=tmp_path / "fit", show_progress=False, seed=7, epochs=3, threads=1, holdout=0.25,
    )  # fmt: skip
    last = cloned[-1].values
    assert {name: last[name] for name in replayed.metrics} == replayed.metrics
    unchanged = pausing_to_the_end(task, configs, better, resumes=True)
    assert unchanged[-1].values["center/loss"] != last["center/loss"]
    (row,) = RunStore(run_folder(worse, 7)).rows(CLONED)
    assert (row["trial"], row["step"]) == (3, replayed.history()[0]["step"])
    assert [row["step"] for row in RunStore(run_folder(worse, 7)).rows("evaluation")] == [
        row["step"] for row in replayed.history()
    ]


def test_a_clone_leaves_its_source_as_it_was(tmp_path: Path) -> None:
    task, configs = task_and_configs("parle", 7)
    source, target = run_folder(tmp_path / "a", 7), run_folder(tmp_path / "b", 7)
    pausing(task, configs, tmp_path / "a").advance()
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    _, changed = task_and_configs("parle", 7, rho=3.0)
    clone(source, target, changed[0], {})
    pausing_to_the_end(task, changed, tmp_path / "b", resumes=True)
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_a_spring_that_was_measured_keeps_its_stiffness_in_a_clone(tmp_path: Path) -> None:
    task, configs = task_and_configs("elastic_sgd", 7, rho="auto(4)")
    pausing(task, configs, tmp_path / "a").advance()
    pausing(task, configs, tmp_path / "a", resumes=True).advance()
    _, changed = task_and_configs("elastic_sgd", 7, rho="auto(4)", lr=0.05)
    clone(run_folder(tmp_path / "a", 7), run_folder(tmp_path / "b", 7), changed[0], {})
    saved = newest(run_folder(tmp_path / "b", 7) / "checkpoints")
    assert saved is not None
    coupling = json.loads(json.dumps(read_json(saved.path / "replica-001.json")["coupling"]))
    assert coupling["lr"] == "0.05"
    assert coupling["rho"].startswith("auto(4,base=")


def test_without_a_checkpoint_here_it_is_said_that_the_folder_must_be_shared(tmp_path: Path) -> None:
    _, configs = task_and_configs("parle", 7)
    with pytest.raises(CheckpointError, match="all of them share"):
        clone(run_folder(tmp_path / "a", 7), run_folder(tmp_path / "b", 7), configs[0], {})
