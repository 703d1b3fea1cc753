"""A driver of a sweep: a cluster, Ray Tune's loop on it, and their end. Imported once Ray's environment is pinned."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from deeprelax.execution.cluster import alive_nodes, connection
from deeprelax.tuning.space import SearchSpace
from deeprelax.tuning.study import Study
from deeprelax.tuning.study.terms import Json
from deeprelax.tuning.sweep.admission import Shape, concurrency, own_node, require_room
from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.finale import run_of
from deeprelax.tuning.sweep.largest import SMALLEST, Largest
from deeprelax.tuning.sweep.lending import Lender
from deeprelax.tuning.sweep.neighbors import Neighbors
from deeprelax.tuning.sweep.nested import reserved
from deeprelax.tuning.sweep.outcome import Audience
from deeprelax.tuning.sweep.packing import Packing
from deeprelax.tuning.sweep.places import Learner, Places, in_turns
from deeprelax.tuning.sweep.placing import Wish
from deeprelax.tuning.sweep.population import Population
from deeprelax.tuning.sweep.recruiting import PopulationScheduler, RecruitingSearcher
from deeprelax.tuning.sweep.schedulers import make_scheduler
from deeprelax.tuning.sweep.searcher import Deadline, StudySearcher
from deeprelax.tuning.sweep.sharing import Claim
from deeprelax.tuning.sweep.standing import cost_of
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
        placement: where trials are trained.
        largest: trial of the space.
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
    placement: Wish = "auto"
    largest: Largest = SMALLEST
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
        places = _places(what)
        slots = Slots(places.asked, lambda: _running(searcher, places))
        neighbors = Neighbors(lambda name: _claim(name, places.asked(), searcher, slots))
        lender = Lender(slots, neighbors)
        searcher, scheduler = _search(what, lambda: lender.slots(searcher.begun, has_more=searcher.has_more), places)
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


def _claim(name: str, shape: Shape, searcher: StudySearcher, slots: Slots) -> Claim:
    running = min(searcher.begun, slots.alone)  # of a population most members pause
    return Claim(driver=name, shape=shape, running=running, most=None if searcher.has_more else running)


def _places(what: Drive) -> Places:
    measured = [
        in_turns(run_of(trial), cost_of(trial)["seconds"], what.config.seeds)
        for trial in what.study.trials()
        if what.placement == "auto" and trial.state is TrialState.COMPLETE and "seconds" in cost_of(trial)
    ]
    return Places(what.config, what.placement, what.largest, alive_nodes, partial(_left, what.study), measured)


def _left(study: Study) -> int:
    counts = study.counts()
    return counts["waiting"] + counts["running"]


def _running(searcher: StudySearcher, places: Places) -> list[Shape]:
    begun = [*searcher.open.values(), *(pack[0] for pack in searcher.packs.values())]
    return [places.shape_of(opened.requested) for opened in begun]


class Slots:
    """How many trials may run at once if this driver is alone, as nodes come and go and trials of other shapes run.

    Args:
        asked: returns the shape of the next trial, or of a larger one.
        running: returns the shapes of those that run.

    Raises:
        AdmissionError: none fits now.
    """

    def __init__(self, asked: Callable[[], Shape], running: Callable[[], Sequence[Shape]]) -> None:
        self._asked = asked
        self._running = running
        self._nodes = alive_nodes()
        self._looked = time.monotonic()
        require_room(self._nodes, asked())

    @property
    def alone(self) -> int:
        """How many trials like the next one would run at once on the empty cluster, as it was seen last."""
        return max(1, concurrency(self._nodes, self._asked()))

    def __call__(self) -> int:
        """Return the number, those that run included; the nodes are seen at most two seconds late."""
        if time.monotonic() > self._looked + NODES_S:
            self._nodes = alive_nodes()
            self._looked = time.monotonic()
        running = self._running()
        # If nodes have gone, a trial waits in Tune's queue for their return.
        return max(1, len(running) + concurrency(self._nodes, self._asked(), running))


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


def _search(what: Drive, slots: Callable[[], int], places: Places) -> tuple[StudySearcher, TrialScheduler | None]:
    """Return what suggests trials and what stops, pauses or changes them."""
    config = what.config
    feasible, audience = what.feasible.placing(places.place), Learner(places, what.audience)
    packing = what.packing and what.packing.unless(places.are_workers)

    def searcher(kind: type[Searches], slots: Callable[[], int]) -> Searches:
        return kind(what.study, what.space, feasible, config, slots, what.spent, _cluster(), audience, packing)

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
    in_process = {"CPU": config.cpus_per_trial, "GPU": config.gpus_per_trial}
    trainable = tune.with_resources(tune.with_parameters(SweepTrial, given=what.given), partial(reserved, in_process))
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
