"""What trials have said and the database has not stored yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError

from deeprelax.errors import StudyError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import TrialState

    from deeprelax.tuning.study.storage import PatientStorage
    from deeprelax.tuning.study.terms import Json
    from deeprelax.tuning.study.trial import Trial

Write = Callable[[], object]


@dataclass(frozen=True)
class Ending:
    """How a trial ends.

    Args:
        state: COMPLETE, PRUNED or FAIL.
        values: of the metrics, where the trial has them.
        outcome: the words, where there are any.
    """

    state: TrialState
    values: Sequence[float] | None
    outcome: Mapping[str, Json] | None


class LaterParameters:
    """Optuna's storage, to a trial whose parameters are stored together with what is said of it next.

    Args:
        storage: does all the rest.
        writes: where a parameter is put.
    """

    def __init__(self, storage: BaseStorage, writes: list[Write]) -> None:
        self._storage, self._writes = storage, writes

    def set_trial_param(self, trial_id: int, name: str, value: float, distribution: BaseDistribution) -> None:
        """Put a parameter among the writes; the trial itself remembers it."""
        self._writes.append(lambda: self._storage.set_trial_param(trial_id, name, value, distribution))

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)


@contextmanager
def together(trials: Sequence[Trial]) -> Iterator[None]:
    """Store what is said inside about these trials of one study in one transaction, at the end.

    Their parameters, reports, notes and outcomes. A trial that was given back to the queue takes nothing and
    :attr:`Trial.is_lost` from then on; the others are stored. As without this, outcomes wait for a database that is
    away, and the rest is delivered later.

    Raises:
        StudyError: an outcome is among what was said, and the database was away for too long. Say it again.
    """
    for trial in trials:
        trial.hold_back()
    try:
        yield
    finally:
        for trial in trials:
            trial.hold_back(False)
    store(trials)


def store(trials: Sequence[Trial]) -> None:
    """Store what these trials have said, in one transaction; see :func:`together`."""
    if not trials:
        return
    storage: PatientStorage = trials[0].storage
    ends = any(trial.ending for trial in trials)
    if storage.link.is_away and not ends:
        return
    try:
        with nullcontext() if ends else storage.link.patience(0):
            refused = storage.together(lambda: [not _written(trial) for trial in trials])
    except StudyError:
        if ends:
            raise
        return
    for trial, is_refused in zip(trials, refused, strict=True):
        trial.stored(refused=is_refused)


def _written(trial: Trial) -> bool:
    """Write what a trial has said; return whether it takes it."""
    try:
        for write in trial.unstored:
            write()
    except UpdateFinishedTrialError:
        return False
    return True
