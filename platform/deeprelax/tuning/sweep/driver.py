"""A driver of a sweep: a cluster, Ray Tune's loop on it, and their end. Imported once Ray's environment is pinned."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from deeprelax.execution.cluster import alive_nodes, connection
from deeprelax.tuning.space import SearchSpace
from deeprelax.tuning.study import Study
from deeprelax.tuning.study.terms import Json
from deeprelax.tuning.sweep.admission import Shape, concurrency, own_node, require_room, shape_of
from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.lending import Lender
from deeprelax.tuning.sweep.neighbors import Neighbors
from deeprelax.tuning.sweep.outcome import Audience
from deeprelax.tuning.sweep.packing import Packing
from deeprelax.tuning.sweep.population import Population
from deeprelax.tuning.sweep.recruiting import PopulationScheduler, RecruitingSearcher
from deeprelax.tuning.sweep.schedulers import make_scheduler
from deeprelax.tuning.sweep.searcher import Deadline, StudySearcher
from deeprelax.tuning.sweep.sharing import Claim
from deeprelax.tuning.sweep.trial import Given, SweepTrial

Searches = TypeVar("Searches", bound=StudySearcher)

NODES_S = 2.0
"""Seconds between two looks at the cluster's nodes."""

_TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints a box even at verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # runs have their own files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours gives the trials back
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What one driver needs.

    Args:
        config: what all drivers agree on.
        space: what is searched.
        feasible: refuses what cannot be trained.
        study: open.
        given: to every trial.
        spent: gradients that earlier trials have cost.
        audience: hears what happens.
        packing: chooses how many trials of the study are one of Tune; None: one.
        ends: value of the monotonic clock at which this driver stops, or None.
        address: of a running cluster; None uses the connected one or starts one on this machine.
        scratch: folder for Tune's own files, which are removed at the end; None makes one beside the trials.
        verbose: let Ray talk.
    """

    config: SweepConfig
    space: SearchSpace
    feasible: Feasible
    study: Study
    given: Given
    spent: float
    audience: Audience
    packing: Packing | None = None
    ends: float | None = None
    address: str | None = None
    scratch: Path | None = None
    verbose: bool = False


def drive(what: Drive) -> bool:
    """Train trials until the study is finished or this driver's time is up; return whether it was interrupted.

    The first Ctrl-C gives the running trials back to the queue and ends; a second one interrupts at once.

    Raises:
        AdmissionError: no trial fits the cluster.
        ConfigError: there is no cluster at the address, or nothing that is suggested can be trained.
        StudyError: the study's database was away for too long.
    """
    with connection(what.address, int(own_node()["CPU"]), verbose=what.verbose):
        shape = shape_of(what.config.cpus_per_trial, what.config.gpus_per_trial)
        slots = Slots(shape)
        neighbors = Neighbors(lambda name: _claim(name, shape, searcher, slots))
        lender = Lender(slots, neighbors)
        searcher, scheduler = _search(what, lambda: lender.slots(searcher.begun, has_more=searcher.has_more))
        scheduler = lender.watching(scheduler or FIFOScheduler())
        with neighbors, stopping(searcher), quiet_tune(verbose=what.verbose), _scratch(what) as folder:
            try:
                _tuner(what, searcher, scheduler, folder).fit()
            finally:
                searcher.give_back()
    if searcher.error is not None:
        raise searcher.error
    return searcher.interrupted


def _cluster() -> dict[str, Json]:
    """Return what is known of the connected cluster."""
    nodes = alive_nodes()
    return {
        "address": ray.get_runtime_context().gcs_address,
        "nodes": len(nodes),
        "cores": sum(node.get("CPU", 0.0) for node in nodes),
        "gpus": sum(node.get("GPU", 0.0) for node in nodes),
    }


def _claim(name: str, shape: Shape, searcher: StudySearcher, slots: Callable[[], int]) -> Claim:
    running = min(searcher.begun, slots())  # of a population most members pause
    return Claim(driver=name, shape=shape, running=running, most=None if searcher.has_more else running)


class Slots:
    """How many trials may run at once if this driver is alone, as nodes come and go.

    Args:
        shape: of a trial.

    Raises:
        AdmissionError: none fits now.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._count = require_room(alive_nodes(), shape)
        self._counted = time.monotonic()

    def __call__(self) -> int:
        """Return the number, at most two seconds old."""
        if time.monotonic() > self._counted + NODES_S:
            # If nodes have gone, a trial waits in Tune's queue for their return.
            self._count = max(1, concurrency(alive_nodes(), self._shape))
            self._counted = time.monotonic()
        return self._count


@contextmanager
def stopping(searcher: StudySearcher) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second SIGINT raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        if searcher.interrupted:
            raise KeyboardInterrupt
        searcher.interrupted = searcher.stopping = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def quiet_tune(*, verbose: bool) -> Iterator[None]:
    """Let Tune neither print nor write logs of its own, for a while."""
    before = {name: os.environ.get(name) for name in _TUNE_ENVIRONMENT}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(_TUNE_ENVIRONMENT)
    logger.setLevel(logging.INFO if verbose else logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _search(what: Drive, slots: Callable[[], int]) -> tuple[StudySearcher, TrialScheduler | None]:
    """Return what suggests trials and what stops, pauses or changes them."""
    config = what.config

    def searcher(kind: type[Searches], places: Callable[[], int]) -> Searches:
        return kind(
            what.study, what.space, what.feasible, config, places, what.spent, _cluster(), what.audience, what.packing
        )

    metric, direction = config.metrics[0], config.directions[0]
    if not config.pauses:
        return searcher(StudySearcher, slots), make_scheduler(config.scheduler, metric, direction)
    recruiting = searcher(RecruitingSearcher, lambda: config.population)
    recruiting.population = Population(
        what.space,
        what.feasible,
        Path(what.given["folder"]),
        metric=metric,
        direction=direction,
        seed=config.sampler_seed,
    )
    return recruiting, PopulationScheduler(recruiting.population, recruiting)


def _tuner(what: Drive, searcher: StudySearcher, scheduler: TrialScheduler | None, folder: Path) -> tune.Tuner:
    config = what.config
    resources = {"cpu": config.cpus_per_trial} | ({"gpu": config.gpus_per_trial} if config.gpus_per_trial else {})
    trainable = tune.with_resources(tune.with_parameters(SweepTrial, given=what.given), resources)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # the study knows
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            stop=Deadline(searcher, what.ends),
            callbacks=[searcher.deaths],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    )


def _name(trial: tune.experiment.Trial) -> str:
    return str(trial.trial_id)


@contextmanager
def _scratch(what: Drive) -> Iterator[Path]:
    if what.scratch is not None:
        yield what.scratch
        return
    with tempfile.TemporaryDirectory(prefix="deeprelax-tune-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
