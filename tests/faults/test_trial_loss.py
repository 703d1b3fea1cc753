"""Real faults of a trial on workers: a killed worker, a trial that is stopped, a killed trial process."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from tests.faults.processes import processes_of
from tests.unit.toytasks import TOY, toy

from deeprelax.config import RunConfig
from deeprelax.reference import refer
from deeprelax.registry import find
from deeprelax.replica.task import Task
from deeprelax.tuning.sweep.replication import Replication
from deeprelax.tuning.sweep.trial import Given, SweepTrial, TrialConfig

pytestmark = pytest.mark.usefixtures("ray_cluster")

ENDLESS = 1e6
"""Data passes of a trial that something ends."""

PATIENCE_S = 120.0


class Process:
    """What Ray Tune makes of a trial, without Tune."""

    def __init__(self, config: TrialConfig, given: Given) -> None:
        self._trial = SweepTrial.__new__(SweepTrial)
        self._trial.setup(config, given)

    def step(self) -> dict[str, object]:
        return self._trial.step()

    def reset(self, config: TrialConfig) -> bool:
        return self._trial.reset_config(config)

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Any]:
    """Start the process of a trial in a group of two workers, as Tune reserves it."""
    group = placement_group([{"CPU": 1.0}] * 2)
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
    reference = refer(toy)
    given: Given = {
        "reference": {"path": reference.path, "source_hash": reference.source_hash, "source": reference.source},
        "folder": str(tmp_path),
    }
    yield ray.remote(num_cpus=0, scheduling_strategy=strategy)(Process).remote(trial(0), given)
    remove_placement_group(group)


def trial(number: int) -> TrialConfig:
    asked = RunConfig(
        trainable=TOY, trainable_config=find(TOY).configure({}), method="parle", epochs=ENDLESS, holdout=0.25,
        coupling={"replicas": 2, "period": 4, "gamma": 100, "rho": 5, "lr": "0.1"}, threads=1, gpus_per_replica=0.0,
    )  # fmt: skip
    return TrialConfig(number=number, runs=json.dumps([asked.resolved(task_of(asked)).job()]))


def task_of(config: RunConfig) -> Task:
    return config.judged(find(TOY).build(config.trainable_config))


def in_this_process(folder: Path) -> Replication:
    """Return the same trial with its replicas taking turns."""
    (run,) = json.loads(trial(0)["runs"])
    config = RunConfig(**run).with_fields(placement="local")
    return Replication(task_of(config), [config], folder)


def started(name: str) -> set[int]:
    """Return the living processes of Ray actors of a class, by what they are called."""
    return {pid for pid, command in processes_of(os.getsid(0)) if command.startswith(f"ray::{name}")}


def until(holds: Callable[[], bool]) -> bool:
    """Wait for something that must come."""
    end = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.1)
    return holds()


@pytest.mark.long
def test_a_trial_survives_its_workers_and_they_do_not_survive_it(process: Any, tmp_path: Path) -> None:
    def step() -> dict[str, Any]:
        row: dict[str, Any] = ray.get(process.step.remote())
        assert "failed" not in row, row
        return row

    def events() -> list[str]:
        lines = (tmp_path / "00000/seed-0/events.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    def processes() -> set[int]:
        """Return workers, controller and server; Ray has idle processes ready, which become one of them."""
        return set[int]().union(*map(started, ("RayTrainWorker", "_ReservedController", "Head"))) - others

    others: set[int] = set()
    others = processes()
    first, second = step(), step()
    assert first["passes"] < second["passes"], "evaluations come while the run trains"
    assert second["done"] is False
    here = in_this_process(tmp_path / "here")
    assert [first["center/loss"], second["center/loss"]] == [here.advance().values["center/loss"] for _ in range(2)]
    assert len(processes()) == 4, "two workers, a controller, a server"

    os.kill(max(processes() & started("RayTrainWorker")), signal.SIGKILL)
    assert until(lambda: step()["done"] is False and "rejoined" in events())
    assert events().count("lost") == 1

    stopped = processes()
    assert ray.get(process.reset.remote(trial(1)))
    assert until(lambda: not stopped & processes()), "a trial that is stopped ends its workers"
    step()  # so the next one has found room in the same group
    assert len(processes()) == 4

    os.kill(ray.get(process.pid.remote()), signal.SIGKILL)
    assert until(lambda: not processes()), "workers, controller and servers end with the trial's process"
