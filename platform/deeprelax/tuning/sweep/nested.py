"""A trial whose runs are Ray Train runs: a worker a replica, while the trial's own process only listens."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import cast

from ray.tune import PlacementGroupFactory

from deeprelax.config import RunConfig
from deeprelax.execution.entry import make_job
from deeprelax.execution.trainer import run_on_ray
from deeprelax.reference import Reference
from deeprelax.replica.loop import Event
from deeprelax.tuning.sweep.admission import Resources
from deeprelax.tuning.sweep.replication import Judgement, judged, keep_result, open_recorder, row_of


def reserved(in_process: Resources, trial: Mapping[str, object]) -> PlacementGroupFactory:
    """Return what Tune reserves for a trial, together or not at all: its process, or nothing for it but its workers.

    Args:
        in_process: what a trial's process reserves if its replicas are in it.
        trial: a :class:`~deeprelax.tuning.sweep.trial.TrialConfig`, or a pack of them, which share a process.
    """
    jobs = json.loads(str(trial.get("runs", "[]")))
    if not jobs or jobs[0]["placement"] == "local":
        return PlacementGroupFactory([dict(in_process)])
    runs = [RunConfig(**job) for job in jobs]
    worker = {"CPU": runs[0].cpus_per_replica, "GPU": runs[0].gpus_per_replica or 0.0}
    return PlacementGroupFactory([{}, *[worker] * sum(run.make_coupling().replicas for run in runs)])


class NestedReplication:
    """The runs of one configuration, as :class:`~deeprelax.tuning.sweep.replication.Replication` has them.

    Here they train on while somebody decides by their last evaluation, and have to be ended by :meth:`close`. Their
    workers take the bundles of the placement group that this process is in: those of the first run, then of the next.

    Args:
        reference: where the trainable's code is.
        configs: resolved; they differ in their seed.
        folder: of the runs' folders ``seed-0``, ``seed-1``, …; what an earlier attempt left there is removed.
        keeps: leave the last checkpoint of runs that have ended.
    """

    def __init__(
        self, reference: Reference, configs: Sequence[RunConfig], folder: Path, *, keeps: bool = False
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        workers = configs[0].make_coupling().replicas
        self._runs = [
            _NestedRun(reference, config, folder / f"seed-{config.seed}", first_bundle=index * workers, keeps=keeps)
            for index, config in enumerate(configs)
        ]
        for run in self._runs:
            run.start()

    def advance(self) -> Judgement:
        """Wait until every run has its next evaluation.

        Raises:
            DeepRelaxError: what ended one of them.
        """
        rows = [run.advance() for run in self._runs]
        return judged(rows, finished=all(run.finished for run in self._runs))

    def close(self) -> None:
        """End the runs that still train, and their workers; return when they have ended."""
        for run in self._runs:
            run.cut.set()
        for run in self._runs:
            run.join()


@dataclass(frozen=True)
class _News:
    """An evaluation, or what has ended the run; a run that was cut has no more news."""

    row: dict[str, float] | None = None
    error: Exception | None = None
    finished: bool = False


class _NestedRun(threading.Thread):
    """The driver of one Ray Train run.

    Attributes:
        cut: set it to end the run at once.
        finished: the run has ended and its last evaluation was returned.
    """

    def __init__(
        self, reference: Reference, config: RunConfig, folder: Path, *, first_bundle: int, keeps: bool
    ) -> None:
        super().__init__(name=f"deeprelax-{folder.name}", daemon=True)
        self.cut = threading.Event()
        self.finished = False
        self._config = config
        self._recorder = open_recorder(config, folder)
        self._job = make_job(config, reference, self._recorder.store.checkpoints)
        self._first_bundle = first_bundle
        self._keeps = keeps
        self._news: SimpleQueue[_News] = SimpleQueue()
        self._row: dict[str, float] = {}
        self._met = time.monotonic()

    def advance(self) -> dict[str, float]:
        """Wait for the next evaluation, the last one with the end of the run; return it with the cost so far.

        Raises:
            DeepRelaxError: what has ended the run.
        """
        if not self.finished:
            news = self._news.get()
            if news.error is not None:
                raise news.error
            assert news.row is not None
            self._row, self.finished = news.row, news.finished
        return self._row

    def run(self) -> None:
        """Train; in the thread."""
        try:
            run_on_ray(self._config, self._job, self._take, first_bundle=self._first_bundle, cut=self.cut)
            if self.cut.is_set():
                return
            seconds = self._seconds
            keep_result(self._recorder, seconds, keeps=self._keeps)
            self._news.put(_News(row=row_of(self._recorder, seconds), finished=True))
        except Exception as error:  # noqa: BLE001 - whoever advances the run raises it
            self._news.put(_News(error=error))

    @property
    def _seconds(self) -> float:
        """Seconds since the replicas met: the start of their processes is not what the run costs."""
        return time.monotonic() - self._met

    def _take(self, event: Event) -> None:
        self._recorder.take(event)
        if event["event"] == "joined":
            self._met = time.monotonic()
        if event["event"] == "evaluation" and cast("int", event["step"]) < (self._config.steps or 0):
            self._news.put(_News(row=row_of(self._recorder, self._seconds) | self._bytes_at(event)))

    def _bytes_at(self, event: Event) -> dict[str, float]:
        """Return what all replicas have exchanged at replica 0's evaluation; the news of the others may be late."""
        own = sum(cast("int", event[name]) for name in ("exchange/bytes_sent", "exchange/bytes_received"))
        return {"bytes_exchanged": float(own * self._recorder.replicas)}
