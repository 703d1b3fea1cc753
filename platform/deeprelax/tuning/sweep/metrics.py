"""The numbers that a sweep can make small or large."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deeprelax.errors import ConfigError, nearest
from deeprelax.replica.evaluation import evaluating
from deeprelax.replica.task import Task
from deeprelax.tuning.sweep.replication import COSTS

_SAMPLES = 2


def metrics_of(task: Task) -> list[str]:
    """Return the names of all objectives of a task, found by judging an untrained model on two samples."""
    inputs, targets = task.test_data.batch(torch.arange(min(_SAMPLES, len(task.test_data))))
    with torch.random.fork_rng(devices=[]):
        model = task.model()
    with torch.no_grad(), evaluating(model):
        own = task.metrics(model(inputs), targets)
    return ["center/loss", *(f"center/{name}" for name in own), *COSTS]


def check_metrics(chosen: Sequence[str], task: Task) -> None:
    """Refuse objectives that the runs do not report.

    Raises:
        ConfigError: names the unknown one and the nearest right name.
    """
    known = metrics_of(task)
    for metric in chosen:
        if metric not in known:
            raise ConfigError(
                f"Unknown objective {metric!r}.{nearest(metric, known)} Must be one of: {', '.join(known)}."
            )
