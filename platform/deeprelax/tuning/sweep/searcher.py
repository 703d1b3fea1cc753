"""Between the study and Ray Tune: what the study suggests is trained, what Tune reports ends up in the study."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from optuna.exceptions import UpdateFinishedTrialError
from ray.tune.result import TIME_TOTAL_S
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, DeepRelaxError, LeaseError, StudyError
from deeprelax.tuning.space import SearchSpace
from deeprelax.tuning.study import Study, Trial, together
from deeprelax.tuning.study.terms import Json
from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.deaths import Deaths
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.outcome import (
    DISK_FULL,
    DIVERGED,
    ERRORS,
    FAILED,
    FINISHED,
    GRADIENTS,
    ONE_BY_ONE,
    PACK,
    Audience,
    Outcome,
    Result,
)
from deeprelax.tuning.sweep.packing import Packing
from deeprelax.tuning.sweep.schedulers import reason
from deeprelax.tuning.sweep.trial import PackConfig, TrialConfig

POLL_S = 0.5
"""Seconds between two questions to the study after it had nothing to do."""

INFEASIBLE_AT_ONCE = 20
"""Infeasible suggestions in a row before Tune's loop is let go on."""

INFEASIBLE_IN_ALL = 300
"""Infeasible suggestions in a row that make the sweep give up: the space and what the user has fixed contradict."""

FAILED_IN_A_ROW = 6
"""Failed trials in a row, none of them diverged, that make the sweep give up: the fault is in what they share."""

RECLAIM_S = 5.0
"""Seconds between two looks for trials whose driver is silent."""


@dataclass
class Open:
    """A trial that is being trained by this driver.

    Args:
        trial: of the study.
        requested: its run.
        runs: the same, resolved for each seed.
        last: what it reported last.
        reports: how often it has reported.
        elsewhere: gradients it has cost beside those that it reports: of a run that was given up, less what the run
            that it went on with had cost another trial.
        counted: gradients of it that the sweep has counted.
        notes: what happened to it on its way.
    """

    trial: Trial
    requested: RunConfig
    runs: Sequence[RunConfig]
    last: Result = field(default_factory=dict)
    reports: int = 0
    elsewhere: float = 0.0
    counted: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Return the gradients that the trial itself has cost."""
        return _number(self.last, GRADIENTS, 0.0) + self.elsewhere

    def goes_on_from(self, own: float, source: float) -> None:
        """Note that the trial gives up its run, which has cost ``own`` gradients, and goes on with another's."""
        self.elsewhere += own - source


class StudySearcher(Searcher):
    """Asks the study for trials and tells it how they end.

    Tune writes its searcher to disk again and again. There is nothing to write: everything is in the study, whose
    address with its password must reach no file. So the pickled state is empty, and a sweep resumes from the study.

    Args:
        study: open.
        space: turns a trial's parameters into fields of a run.
        feasible: refuses what cannot be trained.
        config: of the sweep.
        slots: returns how many trials may run at once now.
        spent: gradients that earlier trials of the study have cost.
        cluster: plain JSON, stored with every trial: what it is trained on.
        audience: hears what happens.
        packing: chooses how many trials of the study are one of Tune; None: one.
    """

    def __init__(
        self,
        study: Study,
        space: SearchSpace,
        feasible: Feasible,
        config: SweepConfig,
        slots: Callable[[], int],
        spent: float,
        cluster: Mapping[str, Json],
        audience: Audience,
        packing: Packing | None = None,
    ) -> None:
        super().__init__()
        self.stopping = self.interrupted = False
        self.error: Exception | None = None
        self.ends: float | None = None
        self.deaths = Deaths()
        self.open: dict[str, Open] = {}
        self.packs: dict[str, list[Open]] = {}
        self._study = study
        self._space = space
        self._feasible = feasible
        self._config = config
        self._slots = slots
        self._spent = spent
        self._cluster = cluster
        self._audience = audience
        self._packing = packing or Packing(1, config)
        self._asked_in_vain = self._reclaimed = -math.inf
        self._refused = self._failed = 0

    def __getstate__(self) -> dict[str, object]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Write nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""

    def suggest(self, trial_id: str) -> TrialConfig | PackConfig | str | None:  # type: ignore[override]
        """Return the next trial, None while there is nothing to do, or FINISHED."""
        if self.is_over:
            return str(self.FINISHED)
        if self.begun >= self._slots() or self.has_asked_in_vain:
            return None
        try:
            self._reclaim()
            return self._next(trial_id)
        except Exception as error:  # noqa: BLE001 - Tune would bury it; the driver raises it
            self.error = error
            return str(self.FINISHED)

    def on_trial_result(self, trial_id: str, result: Result) -> None:
        """Note what a trial reports on its way."""
        opened = self.open[trial_id]
        self._hear(opened, result)
        with suppress(LeaseError):  # the next thing that Tune asks about it is whether it is lost
            self._report(opened)

    @property
    def has_asked_in_vain(self) -> bool:
        """Return whether the study had nothing to do just now."""
        return time.monotonic() < self._asked_in_vain + POLL_S

    def is_lost(self, trial_id: str) -> bool:
        """Return whether another driver was given the trial, because this one was out of touch for too long."""
        opened = self.open.get(trial_id)
        return opened is not None and opened.trial.is_lost

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        """Tell the study how a trial has ended, or all of a pack."""
        ended = self.packs.pop(trial_id, None) or [self.open.pop(trial_id)]
        self._asked_in_vain = -math.inf  # it may have been the last
        lost = self.deaths.why(trial_id) if error else ""
        if result:
            self._packing.took(_number(result, TIME_TOTAL_S, 0.0), len(ended))
            for opened, own in zip(ended, _results(result), strict=True):
                self._hear(opened, own)
        try:
            with together([opened.trial for opened in ended]):
                outcomes = [
                    self._lose(opened.trial, lost, alone=len(ended) == 1) if lost else self._close(opened)
                    for opened in ended
                ]
        except StudyError as away:
            self.error = away
            return
        for opened, (outcome, why) in zip(ended, outcomes, strict=True):
            self._tell(opened, outcome, why)

    @property
    def begun(self) -> int:
        """How many of Tune's trials this driver has begun: single ones and packs."""
        return len(self.open) + len(self.packs)

    @property
    def is_over(self) -> bool:
        """Whether this driver is to stop: it was asked to, its time is up, or it cannot go on."""
        if self.ends is not None and time.monotonic() >= self.ends:
            self.stopping = True
        return self.stopping or self.error is not None

    @property
    def has_more(self) -> bool:
        """Whether the study had another trial when it was asked last, as far as is known."""
        return self._asked_in_vain == -math.inf

    def give_back(self) -> None:
        """Return the trials that are still open to the queue: this driver stops."""
        given_back = [*self.open.values(), *(opened for pack in self.packs.values() for opened in pack)]
        self.open.clear()
        self.packs.clear()
        for opened in given_back:
            with suppress(DeepRelaxError):  # without the database their leases end by themselves
                opened.trial.fail("its driver was stopped", kind="preempted")
            self._audience.ended(opened.trial.number, "preempted", "", opened.last, opened.requested)

    def _reclaim(self) -> None:
        if time.monotonic() >= self._reclaimed + RECLAIM_S:
            self._study.reclaim()
            self._reclaimed = time.monotonic()

    def _next(self, trial_id: str) -> TrialConfig | PackConfig | str | None:
        for _ in range(INFEASIBLE_AT_ONCE):
            trials = [] if self._exhausted else self._study.ask_some(self._packing.size, max(1, self._slots()))
            if not trials:
                self._asked_in_vain = time.monotonic()
                over = self._study.finished or (self._exhausted and not self.open and not self.packs)
                return str(self.FINISHED) if over else None
            self._asked_in_vain = -math.inf
            begun = [opened for trial in trials if (opened := self._begin(trial)) is not None]
            if len(begun) == 1:
                self.open[trial_id] = begun[0]
                return _config(begun[0])
            if begun:
                self.packs[trial_id] = begun
                return PackConfig(pack=json.dumps([_config(opened) for opened in begun]))
        return None

    def _begin(self, trial: Trial) -> Open | None:
        """Return the trial with its runs, or None if it cannot be trained."""
        try:
            with together([trial]):
                requested = self._feasible.requested(self._space.suggest(trial.suggest))
                runs = self._feasible.runs(requested)
                trial.note(run=cast("Json", requested.job()), cluster=self._cluster)
        except UpdateFinishedTrialError:  # the driver was silent, another one has the trial
            return None
        except ConfigError as error:
            with suppress(LeaseError):
                self._refuse(trial, str(error))
            return None
        if trial.is_lost:
            return None
        self._refused = 0
        self._audience.begun(trial.number)
        return Open(trial, requested, runs)

    def _refuse(self, trial: Trial, why: str) -> None:
        trial.fail(why, kind="infeasible")
        self._audience.ended(trial.number, "infeasible", why, {}, None)
        self._refused += 1
        if self._refused >= INFEASIBLE_IN_ALL:
            raise ConfigError(
                f"Invalid search: {self._refused} suggestions in a row were infeasible. Widen the space, or fix fewer "
                f"fields. The last one: {why}"
            )

    def _tell(self, opened: Open, outcome: Outcome, why: str) -> None:
        try:
            opened.trial.refuse_lost()
        except LeaseError as refused:
            outcome, why = "preempted", str(refused)
        self._audience.ended(opened.trial.number, outcome, why, opened.last, opened.requested)

    def _hear(self, opened: Open, result: Result) -> None:
        opened.last = result
        self._spent += opened.spent - opened.counted
        opened.counted = opened.spent
        opened.reports += 1

    def _lose(self, trial: Trial, why: str, *, alone: bool) -> tuple[Outcome, str]:
        if alone:
            return self._fail(trial, why)
        trial.fail(why, kind="preempted")  # one of the pack may be the reason: each runs again, alone
        return "preempted", why

    def _close(self, opened: Open) -> tuple[Outcome, str]:
        trial, last = opened.trial, opened.last
        if last.get(DIVERGED):
            trial.note(failure=str(last[FAILED]))
            trial.complete([math.nan for _ in self._config.metrics])
            return "failed", str(last[FAILED])
        if FAILED in last:
            end = self._return if last.get(DISK_FULL) else self._fail
            return end(trial, str(last[FAILED]))
        self._failed = 0
        values = [_number(last, metric) for metric in self._config.metrics]
        wrong = [name for name, value in zip(self._config.metrics, values, strict=True) if not math.isfinite(value)]
        if wrong:
            return self._fail(trial, f"{wrong[0]} is {last.get(wrong[0], 'missing')}")
        one_by_one = {ONE_BY_ONE: str(last[ONE_BY_ONE])} if ONE_BY_ONE in last else {}
        trial.note(cost=_cost(last) | {GRADIENTS: opened.spent}, **one_by_one)
        if last.get(FINISHED):
            trial.complete(values)
            return "complete", ""
        why = reason(self._config.scheduler, self._config.metrics[0], values[0], _number(last, "passes"))
        self._report(opened)
        trial.prune(values[0], opened.reports, why)
        return "pruned", why

    def _return(self, trial: Trial, why: str) -> tuple[Outcome, str]:
        """Give a trial back to the queue for what is not its fault, and end: it would happen again."""
        trial.fail(why, kind="preempted")
        self.error = DeepRelaxError(why)
        return "preempted", why

    def _fail(self, trial: Trial, why: str) -> tuple[Outcome, str]:
        trial.fail(why, kind="failed")
        self._failed += 1
        if self._failed >= FAILED_IN_A_ROW:
            self.error = DeepRelaxError(f"{self._failed} trials in a row have failed. The last one: {why}")
        return "failed", why

    def _report(self, opened: Open) -> None:
        """Store how a trial stands; Optuna takes that of one objective only."""
        value = _number(opened.last, self._config.metrics[0])
        if len(self._config.metrics) == 1 and math.isfinite(value):
            opened.trial.report(value, opened.reports)

    @property
    def _exhausted(self) -> bool:
        return self._config.max_gradients is not None and self._spent >= self._config.max_gradients


class Deadline(Stopper):
    """Ends Tune's loop when the sweep is to stop; its pickled state is empty, like the searcher's.

    Args:
        searcher: whose ``stopping`` ends the loop.
        ends: value of the monotonic clock, or None.
    """

    def __init__(self, searcher: StudySearcher, ends: float | None) -> None:
        self._searcher = searcher
        # Tune asks no stopper while it has nothing to run and waits for a trial.
        searcher.ends = ends

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __call__(self, trial_id: str, result: Result) -> bool:  # noqa: ARG002 - Tune's signature
        """Return whether this trial is to stop: training it on would be in vain."""
        return self._searcher.is_lost(trial_id)

    def stop_all(self) -> bool:
        """Return whether to stop."""
        return self._searcher.is_over


def _config(opened: Open) -> TrialConfig:
    return TrialConfig(number=opened.trial.number, runs=json.dumps([run.job() for run in opened.runs]))


def _results(result: Result) -> list[Result]:
    """Return the result of each trial."""
    return list(json.loads(str(result[PACK]))) if PACK in result else [result]


def _cost(last: Result) -> dict[str, Json]:
    names = ("bytes_exchanged", "seconds", "passes", "center/error", "center/loss", GRADIENTS)
    numbers = {name: _number(last, name) for name in names if name in last}
    errors = json.loads(str(last.get(ERRORS, "{}")))
    return {name: value for name, value in numbers.items() if math.isfinite(value)} | {ERRORS: errors}


def _number(result: Result, name: str, default: float = math.nan) -> float:
    value = result.get(name, default)
    return float(value) if isinstance(value, int | float) else math.nan
