"""The trials of a pack computed together: a step of all replicas of all of them is one call."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from deeprelax.config import RunConfig
from deeprelax.execution.stacked import here, stacked_rounds, why_it_does_not_pay, why_not_stacked
from deeprelax.replica.task import Task
from deeprelax.tuning.sweep.replication import Judgement, Replication


class Stacking:
    """Knows which runs of a task can be computed together; finding out takes longer than a short trial."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._known: dict[tuple[object, ...], str | None] = {}

    def why_not(self, task: Task, configs: Sequence[RunConfig]) -> str | None:
        """Return why runs of one task are not computed together; None if they are.

        Args:
            task: of all of them.
            configs: resolved; where one says ``vectorize="auto"``, that it does not pay is a reason too.
        """
        if task is not self._task:
            self._task, self._known = task, {}
        replicas = sum(config.make_coupling().replicas for config in configs)
        hows = frozenset((config.batch_size, config.accumulate, config.precision) for config in configs)
        auto = any(config.vectorize == "auto" for config in configs)
        key = (hows, auto, replicas)
        if key not in self._known:
            unpaid = why_it_does_not_pay(task, replicas, here()) if auto else None
            self._known[key] = unpaid or self._tried(task, configs, hows)
        return self._known[key]

    def _tried(self, task: Task, configs: Sequence[RunConfig], hows: frozenset[object]) -> str | None:
        if (hows,) not in self._known:
            self._known[hows,] = why_not_stacked(task, configs, here())
        return self._known[hows,]


def train_together(task: Task, trials: Sequence[Replication]) -> list[Judgement | Exception]:
    """Train trials to their ends; return where each stands, or what it failed of. The numbers are equal to rounding.

    Args:
        task: of all of them; see :meth:`Stacking.why_not`.
        trials: not begun. If one of several seeds fails, its trial does, and the others of it are stopped.
    """
    runs = [(number, run) for number, trial in enumerate(trials) for run in trial.runs]
    for _, run in runs:
        run.emit({"event": "vectorize", "step": 0, "vectorized": True, "reason": None})
    torch.set_num_threads(runs[0][1].config.threads or 1)
    failed: dict[int, Exception] = {}
    began = time.perf_counter()
    for progress in stacked_rounds(task, [run for _, run in runs], here()):
        if progress.error is None:
            continue
        number, _ = runs[progress.run]
        failed.setdefault(number, progress.error)
        for other, run in runs:
            run.rounds.stop = run.rounds.stop or other == number
    a_gradient_s = (time.perf_counter() - began) / sum(_gradients(run.config) for _, run in runs)
    return [
        failed.get(number) or trial.end([a_gradient_s * _gradients(run.config) for run in trial.runs])
        for number, trial in enumerate(trials)
    ]


def _gradients(config: RunConfig) -> int:
    assert config.steps is not None, "resolve the config first"
    return config.steps * config.make_coupling().replicas
