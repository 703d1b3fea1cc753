"""A replica's training loop from a plain job: what a Ray worker calls, and what runs in process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from deeprelax.config import RunConfig
from deeprelax.reference import Reference
from deeprelax.registry import resolve
from deeprelax.replica.checkpoint import newest
from deeprelax.replica.local_step import Company
from deeprelax.replica.loop import Emit, Training
from deeprelax.replica.replica import Steps
from deeprelax.replica.task import Task
from deeprelax.testing.faults import FaultPlan
from deeprelax.testing.injection import injector_of

ENTRY = "deeprelax.execution.entry:replica_loop"


def replica_loop(
    job: Mapping[str, object],
    replica: int,
    device: str,
    emit: Emit,
    center_state: Callable[[], Mapping[str, Tensor]],
) -> Steps[None]:
    """Return the loop of one replica on a worker, which finds the trainable's code by its reference.

    Args:
        job: what :func:`make_job` returned.
        replica: index a.
        device: such as ``cpu`` or ``cuda:0``.
        emit: takes events.
        center_state: returns the center where it lives.
    """
    config = RunConfig(**cast("dict[str, object]", job["config"]))
    reference = Reference(**cast("dict[str, str]", job["reference"]))
    task = config.judged(resolve(reference).build(config.trainable_config))
    faults = injector_of(str(job["faults"]), replica, str(job["checkpoints"]))
    emit = faults.watching(emit)
    training = make_training(
        task, config, replica, torch.device(device), emit, center_state, Path(str(job["checkpoints"]))
    )
    # Faults may stand before a gradient, so whoever injects them must see that one is asked for.
    return faults.around(training.asking()) if faults.active else training.run()


def make_training(
    task: Task,
    config: RunConfig,
    index: int,
    device: torch.device,
    emit: Emit,
    center_state: Callable[[], Mapping[str, Tensor]],
    checkpoints: Path,
    company: Company | None = None,
) -> Training:
    """Return one replica's training under a resolved config; it continues from the newest checkpoint, if any."""
    return Training(
        task,
        config.make_coupling(),
        config.plan(task),
        index=index,
        device=device,
        emit=emit,
        checkpoints=checkpoints,
        center_state=center_state,
        resume=newest(checkpoints),
        company=company,
    )


def make_job(config: RunConfig, reference: Reference, checkpoints: Path) -> dict[str, object]:
    """Return the plain JSON values from which a worker builds its replica."""
    return {
        "config": config.job(),
        "reference": {"path": reference.path, "source_hash": reference.source_hash, "source": reference.source},
        "checkpoints": str(checkpoints),
        "threads": config.threads,
        "faults": FaultPlan.text_of_environment(),
    }
