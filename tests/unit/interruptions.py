"""Runs that are interrupted and resumed, and what makes two runs the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.unit.toytasks import EVERYTHING, TOY, InterruptError, at_batch, interrupt

from deeprelax import fit, resume
from deeprelax.coupling import METHODS
from deeprelax.execution.result import RunResult

PERIOD = 5
WITHOUT_BATCHNORM = EVERYTHING | {"batchnorm": False}  # so that every batch fetched is a step of a replica
PASSES, STEPS_PER_PASS = 5, 12
Row = Mapping[str, object]


def coupling_of(method: str, **fields: Any) -> dict[str, Any]:
    """Return a coupling that exchanges at every step, as its paper does, or every 5, across the ends of passes."""
    chosen = METHODS[method]
    period = {} if chosen().period.values == (1.0,) else {"period": PERIOD}
    replicas = {"replicas": 1 if chosen.single_replica else 3}
    return {"coupling": chosen(**{**replicas, **period, **fields})}


def train(run_dir: Path, trainable: str = TOY, **fields: Any) -> RunResult:
    settings: dict[str, Any] = {"config": EVERYTHING, "epochs": PASSES, "seed": 3, "clip_norm": 2.0} | fields
    return fit(trainable, local=True, run_dir=run_dir, show_progress=False, **settings)


def saved_in(run_dir: Path) -> Callable[[], bool]:
    return lambda: any(run_dir.glob("checkpoints/*/manifest.json"))


def train_interrupted(run_dir: Path, *, after: int = 20, **fields: Any) -> None:
    """Train until some batches after the first complete checkpoint, then die of an exception."""
    with at_batch(after, interrupt, begun=saved_in(run_dir)), pytest.raises(InterruptError):
        train(run_dir, **fields)


def continued(run_dir: Path) -> RunResult:
    return resume(run_dir, show_progress=False)


def numbers(rows: list[dict[str, Any]]) -> list[Row]:
    """Return rows in a fixed order without what measures the process and not the training: seconds and traffic."""
    kept = [{k: v for k, v in row.items() if k != "seconds" and not k.startswith("exchange/")} for row in rows]
    return sorted(kept, key=lambda row: (row["step"], row["replica"]))


def assert_same_run(one: RunResult, other: RunResult) -> None:
    assert one.center_path.read_bytes() == other.center_path.read_bytes()
    assert one.metrics == other.metrics
    assert numbers(one.history()) == numbers(other.history())
    assert numbers(one.telemetry()) == numbers(other.telemetry())
    for name in ("gradient_evaluations_per_replica", "gradient_evaluations_total", "data_passes"):
        assert one.cost[name] == other.cost[name]


def checkpoints_of(run_dir: Path) -> list[Path]:
    return sorted(path.parent for path in run_dir.glob("checkpoints/step-*/manifest.json"))


def forget_after_first_checkpoint(run_dir: Path) -> None:
    """Take a finished run back to its oldest kept checkpoint, as if the disk had lost the newer ones."""
    oldest, *newer = checkpoints_of(run_dir)
    assert newer, "there must be something left to train"
    for path in newer:
        shutil.rmtree(path)
    assert oldest.is_dir()
