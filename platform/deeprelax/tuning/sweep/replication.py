"""One configuration trained with several seeds side by side, and judged by their mean, so that luck is not chosen."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from deeprelax.config import RunConfig
from deeprelax.execution.local import local_rounds, restored_rounds
from deeprelax.execution.local_run import LocalRun
from deeprelax.execution.progress import Silence
from deeprelax.execution.recorder import Recorder
from deeprelax.execution.result import RunResult
from deeprelax.execution.store import RunStore
from deeprelax.replica.checkpoint import write_json
from deeprelax.replica.task import Task

Numbers = Mapping[str, float]
COSTS = ("bytes_exchanged", "gradient_evaluations_total", "seconds")
"""What a run costs, by the names that may be objectives; ``seconds`` are those in which the run was computing."""


@dataclass(frozen=True)
class Judgement:
    """Where all the runs of a configuration stand at an evaluation of their centers.

    Args:
        values: means over the runs: ``center/…``, :data:`COSTS`, ``passes``.
        errors: standard errors of those means; empty for one run.
        gradients: of all the runs together so far.
        finished: the runs have ended.
    """

    values: Numbers
    errors: Numbers
    gradients: float
    finished: bool


class Replication:
    """The runs of one configuration, advanced from evaluation to evaluation.

    Between two evaluations nothing runs, so who advances them may stop at any.

    Args:
        task: what the configs train, already with its held-out part.
        configs: resolved; they differ in their seed.
        folder: of the runs' folders ``seed-0``, ``seed-1``, …; what an earlier attempt left there is removed.
    """

    def __init__(self, task: Task, configs: Sequence[RunConfig], folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._runs = [_Run(task, config, folder / f"seed-{config.seed}") for config in configs]

    def advance(self) -> Judgement:
        """Train all runs to their next evaluation.

        Raises:
            DivergedError: the loss of one stopped being finite.
        """
        return self._judged([run.advance() for run in self._runs])

    @property
    def runs(self) -> list[LocalRun]:
        """The runs, for who advances those of several trials together, to their ends."""
        return [run.local for run in self._runs]

    def end(self, seconds: Sequence[float]) -> Judgement:
        """Judge runs that somebody else has trained to their ends.

        Args:
            seconds: in which each was computing.
        """
        return self._judged([run.end(own) for run, own in zip(self._runs, seconds, strict=True)])

    def _judged(self, rows: Sequence[Numbers]) -> Judgement:
        names = [name for name in rows[0] if all(name in row for row in rows)]
        columns = {name: [row[name] for row in rows] for name in names}
        errors = {name: _standard_error(column) for name, column in columns.items()} if len(rows) > 1 else {}
        return Judgement(
            values={name: mean(column) for name, column in columns.items()},
            errors=errors,
            gradients=sum(row["gradient_evaluations_total"] for row in rows),
            finished=all(run.finished for run in self._runs),
        )


class _Run:
    """One run in this process, as ``deeprelax fit --local`` makes it; of its checkpoints nothing is kept."""

    def __init__(self, task: Task, config: RunConfig, folder: Path) -> None:
        self.finished = False
        self._config = config
        self._store = RunStore(folder.absolute())
        # Versions and commit, which RunStore.create adds, are with the sweep: asking git takes longer than a trial.
        write_json(self._store.path / "config.json", config.job())
        self._recorder = Recorder(self._store, config, Silence())
        self._rounds = restored_rounds(self._store.checkpoints)
        self.local = LocalRun(
            config=config, checkpoints=self._store.checkpoints, emit=self._recorder.take, rounds=self._rounds
        )
        self._steps: Iterator[None] = local_rounds(
            task, config, self._store.checkpoints, self._recorder.take, self._rounds
        )
        self._seconds = 0.0

    def advance(self) -> dict[str, float]:
        """Train to the next evaluation, the last one to the end; return it with the cost so far."""
        began, before = time.perf_counter(), self._recorder.evaluation
        while not self.finished:
            self.finished = next(self._steps, self) is self
            if self._recorder.evaluation is not before and self._rounds.step < (self._config.steps or 0):
                break
        self._seconds += time.perf_counter() - began
        if self.finished:
            self._close()
        return self._row()

    def end(self, seconds: float) -> dict[str, float]:
        """Hear that it was trained to its end; return the last evaluation with the cost."""
        self.finished, self._seconds = True, seconds
        self._close()
        return self._row()

    def _row(self) -> dict[str, float]:
        judged = self._recorder.evaluation
        return {name: value for name, value in judged.items() if name.startswith("center/")} | {
            "bytes_exchanged": self._recorder.cost()["bytes_exchanged"],
            "gradient_evaluations_total": judged["step"] * self._recorder.replicas,
            "seconds": self._seconds,
            "passes": judged["passes"],
        }

    def _close(self) -> None:
        row = self._row()
        metrics = {name: value for name, value in row.items() if name.startswith("center/")}
        result = RunResult(
            run_dir=self._store.path,
            config=self._config,
            metrics=metrics,
            cost=self._recorder.cost() | {"seconds": self._seconds},
        )
        write_json(self._store.path / "result.json", result.summary())
        shutil.rmtree(self._store.checkpoints, ignore_errors=True)


def _standard_error(column: Sequence[float]) -> float:
    return stdev(column) / math.sqrt(len(column))
