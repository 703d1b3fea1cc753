"""A trial's runs: the numbers of ``deeprelax fit --local``, their mean over seeds, and a stop at any evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from tests.unit.toytasks import TOY, ToyConfig, toy

from deeprelax import fit, load_result
from deeprelax.config import RunConfig
from deeprelax.coupling import Parle
from deeprelax.errors import DivergedError
from deeprelax.execution.result import RunResult
from deeprelax.replica.task import Task
from deeprelax.tuning.sweep.replication import Judgement, Replication

FIELDS: dict[str, Any] = {"epochs": 3, "holdout": 0.25, "threads": 1}
COUPLING = {"replicas": 2, "period": 4}


def task_and_configs(*seeds: int, **config: Any) -> tuple[Task, list[RunConfig]]:
    first = RunConfig(
        trainable=TOY, trainable_config=ToyConfig(**config).model_dump(), method="parle", coupling=COUPLING,
        placement="local", checkpoint_every=0.0, **FIELDS,
    )  # fmt: skip
    task = first.judged(toy(ToyConfig(**config)))
    resolved = first.resolved(task)
    return task, [resolved.with_fields(seed=seed) for seed in seeds]


def to_the_end(replication: Replication) -> list[Judgement]:
    found = [replication.advance()]
    while not found[-1].finished:
        found.append(replication.advance())
    return found


def fitted(seed: int, folder: Path, **config: Any) -> RunResult:
    return fit(
        TOY, coupling=Parle(replicas=2, period=4), config=config, local=True, run_dir=folder / f"fit-{seed}",
        show_progress=False, seed=seed, **FIELDS,
    )  # fmt: skip


def test_a_trial_has_the_numbers_of_a_fit_in_one_process(tmp_path: Path) -> None:
    alone = fitted(7, tmp_path, dropout=0.2, augment=True)
    task, configs = task_and_configs(7, dropout=0.2, augment=True)
    judgements = to_the_end(Replication(task, configs, tmp_path / "trial"))

    last = judgements[-1].values
    assert {name: last[name] for name in alone.metrics} == alone.metrics
    assert last["bytes_exchanged"] == alone.cost["bytes_exchanged"]
    assert last["gradient_evaluations_total"] == alone.cost["gradient_evaluations_total"]
    history = [row["center/loss"] for row in alone.history()]
    assert [judgement.values["center/loss"] for judgement in judgements] == history
    assert [judgement.finished for judgement in judgements] == [False] * (len(history) - 1) + [True]


def test_the_value_is_the_mean_over_the_seeds_with_its_standard_error(tmp_path: Path) -> None:
    losses = [fitted(seed, tmp_path, dropout=0.2).metrics["center/loss"] for seed in (1, 2, 3)]
    task, configs = task_and_configs(1, 2, 3, dropout=0.2)
    last = to_the_end(Replication(task, configs, tmp_path / "trial"))[-1]

    assert last.values["center/loss"] == pytest.approx(mean(losses), rel=1e-12)
    assert last.errors["center/loss"] == pytest.approx(stdev(losses) / math.sqrt(3), rel=1e-12)
    assert last.gradients == 3 * last.values["gradient_evaluations_total"]


def test_one_seed_has_no_standard_error(tmp_path: Path) -> None:
    task, configs = task_and_configs(1)
    assert Replication(task, configs, tmp_path / "trial").advance().errors == {}


def test_each_run_has_its_folder_and_no_weights_are_kept(tmp_path: Path) -> None:
    task, configs = task_and_configs(4, 5)
    last = to_the_end(Replication(task, configs, tmp_path / "trial"))[-1]
    results = [load_result(tmp_path / f"trial/seed-{seed}") for seed in (4, 5)]
    assert mean(result.metrics["center/error"] for result in results) == pytest.approx(last.values["center/error"])
    assert {result.config.holdout for result in results} == {0.25}
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list(tmp_path.rglob("checkpoints"))


def test_a_trial_that_was_given_back_begins_anew(tmp_path: Path) -> None:
    task, configs = task_and_configs(4)
    whole = to_the_end(Replication(task, configs, tmp_path / "whole"))
    Replication(task, configs, tmp_path / "trial").advance()
    again = to_the_end(Replication(task, configs, tmp_path / "trial"))
    assert [one.values["center/loss"] for one in again] == [one.values["center/loss"] for one in whole]
    lines = (tmp_path / "trial/seed-4/metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(whole), "nothing of the first attempt is left"
    assert json.loads(lines[0])["passes"] <= whole[0].values["passes"]


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    task, configs = task_and_configs(4, poisoned=True)
    with pytest.raises(DivergedError, match="is nan at step"):
        to_the_end(Replication(task, configs, tmp_path / "trial"))
