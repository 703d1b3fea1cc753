"""A sweep whose trials have a worker a replica: the numbers of one process, and nothing held at the end.

What ends its workers is in ``tests/faults/test_trial_loss.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
from optuna.trial import FrozenTrial
from tests.unit.toytasks import TOY, toy
from tests.unit.tuning.sweeps import Heard, agreed, sweeping, toy_space

from deeprelax.reference import refer
from deeprelax.registry import find
from deeprelax.tuning.sweep.driver import Drive, drive
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.finale import run_of
from deeprelax.tuning.sweep.largest import Largest
from deeprelax.tuning.sweep.replication import Judgement, Replication

SETTINGS: dict[str, Any] = {
    "trials": 1,
    "seeds": 2,
    "minimize": ("center/loss",),
    "coupling": {"replicas": 2},
    "run": {"epochs": 3.0, "cpus_per_replica": 1.0},
}
"""Two runs of two replicas: the trial takes the whole cluster, and its own process takes nothing."""

SAME = ("center/error", "center/loss", "bytes_exchanged", "passes")


@pytest.mark.usefixtures("ray_cluster")
def test_trials_on_workers_have_the_numbers_of_one_process(tmp_path: Path) -> None:
    reference = refer(toy)
    fields = {"path": reference.path, "source_hash": reference.source_hash, "source": reference.source}
    config = agreed(**SETTINGS)
    free = ray.available_resources()["CPU"]
    with sweeping(tmp_path, **SETTINGS) as toys:
        drive(
            Drive(
                config=config,
                space=toy_space(),
                feasible=Feasible(config, find(TOY)),
                study=toys.study,
                given={"reference": fields, "folder": str(tmp_path / "trials")},
                spent=0.0,
                audience=Heard(),
                placement="ray",
                largest=Largest(2, 0.0),
            )
        )
        trials = toys.study.trials()

    (trial,) = trials
    assert run_of(trial).placement == "ray"
    here = in_this_process(trial, tmp_path / "here")
    losses = [judgement.values["center/loss"] for judgement in here]
    assert [*trial.intermediate_values.values(), *trial.values] == losses
    cost = trial.user_attrs["cost"]
    assert {name: cost[name] for name in SAME} == {name: here[-1].values[name] for name in SAME}
    assert cost["gradients"] == here[-1].gradients
    assert cost["standard_errors"] == {**here[-1].errors, "seconds": cost["standard_errors"]["seconds"]}
    assert ray.available_resources()["CPU"] == free


def in_this_process(trial: FrozenTrial, folder: Path) -> list[Judgement]:
    """Train a trial again, its replicas taking turns; return every evaluation."""
    config = agreed(**SETTINGS)
    feasible = Feasible(config, find(TOY))
    requested = run_of(trial).with_fields(placement="local", gpus_per_replica=None)
    replication = Replication(feasible.task(requested), feasible.runs(requested), folder)
    found = [replication.advance()]
    while not found[-1].finished:
        found.append(replication.advance())
    return found
