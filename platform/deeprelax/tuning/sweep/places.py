"""The places of one driver's trials: on workers or in one process, and what each asks the cluster for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import mean

from deeprelax.config import Placement, RunConfig
from deeprelax.errors import AdmissionError, ConfigError, StudyError
from deeprelax.tuning.sweep.admission import Resources, Shape, concurrency, require_room, shape_of, shape_on_workers
from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.largest import Largest
from deeprelax.tuning.sweep.outcome import Audience, Outcome, Result
from deeprelax.tuning.sweep.placing import START_S, Known, Wish, sooner


class Places:
    """Places trials; with ``auto``, anew whenever one has ended and shown how long it takes.

    Args:
        config: of the sweep.
        wish: of the user.
        largest: trial of the space.
        nodes: returns the resources of the nodes that live now.
        left: returns how many trials have not ended.
        measured: seconds of the trials that ended before, as :func:`in_turns` counts them.

    Raises:
        ConfigError: workers are wished for replicas that something binds to one process.
    """

    def __init__(
        self,
        config: SweepConfig,
        wish: Wish,
        largest: Largest,
        nodes: Callable[[], Sequence[Resources]],
        left: Callable[[], int],
        measured: Sequence[float] = (),
    ) -> None:
        self._config = config
        self._wish = wish
        self._largest = largest
        self._nodes = nodes
        self._left = left
        self._asked = RunConfig(trainable=config.trainable, **config.run)
        self._measured = list(measured)
        self._in_process = shape_of(config.cpus_per_trial, config.gpus_per_trial)
        self._worker = _worker(self._asked, largest.replicas * config.seeds, nodes())
        if self._bound and (wish == "ray" or (wish == "auto" and self._asked.gpus_per_replica)):
            raise ConfigError(
                f"Invalid workers (placement='ray', or gpus_per_replica) with {self._bound}. Leave one of them out."
            )
        self.now: Placement = "local" if wish == "local" else "ray" if wish == "ray" else self._sooner()

    def asked(self) -> Shape:
        """Return what the largest trial asks for where trials are placed now."""
        return self._in_process if self.now == "local" else self._on_workers(self._largest.replicas)

    def are_workers(self) -> bool:
        """Return whether replicas have a worker each now."""
        return self.now == "ray"

    def shape_of(self, run: RunConfig) -> Shape:
        """Return what a placed run asks for, with all its seeds."""
        return self._in_process if run.placement == "local" else self._on_workers(run.make_coupling().replicas)

    def place(self, run: RunConfig) -> RunConfig:
        """Return the run as it is placed now.

        Raises:
            ConfigError: it has more replicas than the cluster has workers for.
        """
        if self.now == "local":
            return run
        placed = run.with_fields(placement="ray", gpus_per_replica=self._worker.get("GPU", 0.0))
        replicas = placed.make_coupling().replicas
        if replicas > self._largest.replicas:
            try:
                require_room(self._nodes(), self._on_workers(replicas))
            except AdmissionError as error:
                raise ConfigError(str(error)) from None
            self._largest = replace(self._largest, replicas=replicas)
        return placed

    def learn(self, run: RunConfig, seconds: float) -> None:
        """Take how long one run of a trial was computing."""
        self._measured.append(in_turns(run, seconds, self._config.seeds))
        if self._wish == "auto":
            with suppress(StudyError):  # the database is away: trials go where they went
                self.now = self._sooner()

    @property
    def _bound(self) -> str:
        """Return what binds the replicas of a trial to one process, and why; empty if nothing does."""
        if self._config.pauses:
            return f"scheduler={self._config.scheduler!r}: trials pause, and those that wait would keep their workers"
        if self._asked.vectorize != "never":
            return f"vectorize={self._asked.vectorize!r}: replicas on workers cannot be computed together"
        return ""

    def _on_workers(self, replicas: int) -> Shape:
        return shape_on_workers(self._worker, replicas * self._config.seeds)

    def _sooner(self) -> Placement:
        seconds = mean(self._measured) if self._measured else self._largest.seconds
        if seconds <= START_S and not self._asked.gpus_per_replica:
            return "local"  # without a question to the study
        nodes = self._nodes()
        return sooner(
            Known(
                workers=self._largest.replicas * self._config.seeds,
                gpus_per_replica=self._asked.gpus_per_replica or 0.0,
                bound=bool(self._bound),
                seconds=seconds,
                left=self._left(),
                slots_local=concurrency(nodes, self._in_process),
                slots_ray=concurrency(nodes, self._on_workers(self._largest.replicas)),
            )
        )


def _worker(asked: RunConfig, workers: int, nodes: Sequence[Resources]) -> dict[str, float]:
    """Return what a worker asks for: a GPU too if it was asked for, or if the cluster has one for each."""
    gpus = asked.gpus_per_replica
    if gpus is None:
        gpus = 1.0 if sum(node.get("GPU", 0.0) for node in nodes) >= workers else 0.0
    return {"CPU": asked.cpus_per_replica} | ({"GPU": gpus} if gpus else {})


def in_turns(run: RunConfig, seconds: float, seeds: int) -> float:
    """Return how long a trial would compute with its replicas taking turns.

    Args:
        run: one of its runs, as it was placed.
        seconds: in which that run was computing.
        seeds: runs of the trial.
    """
    at_once = 1 if run.placement == "local" else run.make_coupling().replicas
    return seconds * at_once * seeds


class Learner:
    """Tells the places how long trials take, and passes on what it hears to the audience behind it."""

    def __init__(self, places: Places, audience: Audience) -> None:
        self._places = places
        self._audience = audience

    def begun(self, number: int) -> None:
        """Pass it on."""
        self._audience.begun(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:
        """Learn from a trial that was trained to its end, and pass it on."""
        seconds = result.get("seconds")
        if outcome == "complete" and requested is not None and isinstance(seconds, float):
            self._places.learn(requested, seconds)
        self._audience.ended(number, outcome, why, result, requested)
