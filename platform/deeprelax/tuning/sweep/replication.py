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
from deeprelax.tuning.sweep.pausing import PAUSED, PausingRounds, run_folder, seconds_of

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
        paused: the runs are saved and go on only in a new :class:`Replication` with ``resumes``.
    """

    values: Numbers
    errors: Numbers
    gradients: float
    finished: bool
    paused: bool = False


class Replication:
    """The runs of one configuration, advanced from evaluation to evaluation.

    Between two evaluations nothing runs, so who advances them may stop at any.

    Args:
        task: what the configs train, already with its held-out part.
        configs: resolved; they differ in their seed.
        folder: of the runs' folders ``seed-0``, ``seed-1``, …; what an earlier attempt left there is removed.
        pauses: save the runs at every evaluation and go no further.
        resumes: go on with the runs that were paused there instead.
        keeps: leave the last checkpoint of runs that have ended.
    """

    def __init__(
        self,
        task: Task,
        configs: Sequence[RunConfig],
        folder: Path,
        *,
        pauses: bool = False,
        resumes: bool = False,
        keeps: bool = False,
    ) -> None:
        if not resumes:
            shutil.rmtree(folder, ignore_errors=True)
        self._runs = [
            _Run(task, config, run_folder(folder, config.seed), pauses=pauses, resumes=resumes, keeps=keeps)
            for config in configs
        ]

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

    def close(self) -> None:
        """Do nothing: nothing runs between two evaluations."""

    def _judged(self, rows: Sequence[Numbers]) -> Judgement:
        finished, paused = all(run.finished for run in self._runs), any(run.paused for run in self._runs)
        return judged(rows, finished=finished, paused=paused)


def judged(rows: Sequence[Numbers], *, finished: bool, paused: bool = False) -> Judgement:
    """Return what the rows of all runs, as :func:`row_of` makes them, say together."""
    names = [name for name in rows[0] if all(name in row for row in rows)]
    columns = {name: [row[name] for row in rows] for name in names}
    errors = {name: _standard_error(column) for name, column in columns.items()} if len(rows) > 1 else {}
    return Judgement(
        values={name: mean(column) for name, column in columns.items()},
        errors=errors,
        gradients=sum(row["gradient_evaluations_total"] for row in rows),
        finished=finished,
        paused=paused,
    )


def row_of(recorder: Recorder, seconds: float) -> dict[str, float]:
    """Return a run's last evaluation with the cost so far."""
    judgement = recorder.evaluation
    return {name: value for name, value in judgement.items() if name.startswith("center/")} | {
        "bytes_exchanged": recorder.cost()["bytes_exchanged"],
        "gradient_evaluations_total": judgement["step"] * recorder.replicas,
        "seconds": seconds,
        "passes": judgement["passes"],
    }


def keep_result(recorder: Recorder, seconds: float, *, keeps: bool) -> None:
    """Write the result of a run that has ended, and remove its checkpoints unless it ``keeps`` them."""
    metrics = {name: value for name, value in recorder.evaluation.items() if name.startswith("center/")}
    result = RunResult(
        run_dir=recorder.store.path,
        config=recorder.config,
        metrics=metrics,
        cost=recorder.cost() | {"seconds": seconds},
    )
    write_json(recorder.store.path / "result.json", result.summary())
    if not keeps:
        shutil.rmtree(recorder.store.checkpoints, ignore_errors=True)


def open_recorder(config: RunConfig, folder: Path, *, resumes: bool = False) -> Recorder:
    """Return the recorder of a new run in ``folder``, or of one that was paused there.

    Versions and commit, which :meth:`RunStore.create` adds, are with the sweep: asking git takes longer than a trial.
    """
    if resumes:
        store, _, saved = RunStore.reopen(folder.absolute())
        return Recorder(store, config, Silence(), saved.cost)
    store = RunStore(folder.absolute())
    write_json(store.path / "config.json", config.job())
    return Recorder(store, config, Silence(), {})


class _Run:
    """One run in this process, as ``deeprelax fit --local`` makes it."""

    def __init__(
        self, task: Task, config: RunConfig, folder: Path, *, pauses: bool, resumes: bool, keeps: bool
    ) -> None:
        self.finished = self.paused = False
        self._config = config
        self._keeps = keeps
        self._recorder = open_recorder(config, folder, resumes=resumes)
        checkpoints = self._recorder.store.checkpoints
        self._rounds = restored_rounds(checkpoints)
        if pauses:
            every, total = config.plan(task).evaluate_every_steps, config.steps or 0
            self._rounds = PausingRounds(self._rounds, every=every, total=total)
        self.local = LocalRun(config=config, checkpoints=checkpoints, emit=self._recorder.take, rounds=self._rounds)
        self._steps: Iterator[None] = local_rounds(task, config, checkpoints, self._recorder.take, self._rounds)
        self._seconds = seconds_of(self._recorder.store)

    def advance(self) -> dict[str, float]:
        """Train to the next evaluation, the last one to the end; return it with the cost so far."""
        began, before = time.perf_counter(), self._recorder.evaluation
        ended = self.finished
        while not ended:
            ended = next(self._steps, self) is self
            judged = self._recorder.evaluation is not before and not self._rounds.stop
            if judged and self._rounds.step < (self._config.steps or 0):
                break
        self._seconds += time.perf_counter() - began
        self.paused = ended and self._rounds.stop
        self.finished = ended and not self.paused
        if self.paused:
            self._recorder.store.log({"event": PAUSED, "step": self._rounds.step, "seconds": self._seconds})
        if self.finished:
            keep_result(self._recorder, self._seconds, keeps=self._keeps)
        return row_of(self._recorder, self._seconds)

    def end(self, seconds: float) -> dict[str, float]:
        """Hear that it was trained to its end; return the last evaluation with the cost."""
        self.finished, self._seconds = True, seconds
        keep_result(self._recorder, seconds, keeps=self._keeps)
        return row_of(self._recorder, seconds)


def _standard_error(column: Sequence[float]) -> float:
    return stdev(column) / math.sqrt(len(column))
