"""A claimed trial: what a driver may say about it, and what happens to late results."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from deeprelax.errors import ConfigError, LeaseError, StudyError
from deeprelax.tuning.study.leases import Leases
from deeprelax.tuning.study.ledger import OUTCOME, Kind
from deeprelax.tuning.study.storage import PatientStorage
from deeprelax.tuning.study.terms import Json, Terms, plain

_RESERVED = "deeprelax:"
REPORT = "deeprelax:report"


class Trial:
    """One trial that this driver has claimed.

    Its outcome is said once, by :meth:`complete`, :meth:`prune` or :meth:`fail`. Each of these waits for a database
    that is away; :meth:`report` and :meth:`note` do not wait, what they say is delivered later.

    Args:
        study: Optuna's study with the sampler of this trial.
        trial_id: of the claimed trial.
        terms: of the study.
        storage: of the study.
        leases: that hold the trial.
    """

    def __init__(
        self, study: optuna.Study, trial_id: int, terms: Terms, storage: PatientStorage, leases: Leases
    ) -> None:
        self._study, self._id, self._terms = study, trial_id, terms
        self._storage, self._leases = storage, leases
        self._undelivered: deque[Callable[[], object]] = deque()
        self._has_reported = False
        self._is_finished = False
        self.suggest = optuna.Trial(study, trial_id)
        """Optuna's trial, to be asked for the values of the parameters."""

    @property
    def number(self) -> int:
        """The number of the trial in its study."""
        return self.suggest.number

    @property
    def is_lost(self) -> bool:
        """Whether the trial was given back to the queue meanwhile; training it on is in vain."""
        return self._leases.is_lost(self._id)

    def report(self, value: float, step: int) -> None:
        """Store an intermediate value of the first metric.

        With several metrics only the newest is stored, as an attribute: Optuna's samplers fail at trials that were
        pruned with intermediate values where there is more than one objective.

        Args:
            value: any number; NaN too.
            step: what has been spent so far, from 0 on. Samplers and dashboards order the values by it.

        Raises:
            LeaseError: the trial was given back to the queue.
        """
        self._has_reported = True
        if len(self._terms.metrics) > 1:
            newest: dict[str, Json] = {"value": _finite(value), "step": int(step)}
            self._deliver(lambda: self._storage.set_trial_user_attr(self._id, REPORT, newest))
        else:
            self._deliver(lambda: self._storage.set_trial_intermediate_value(self._id, int(step), float(value)))

    def note(self, **values: Json) -> None:
        """Store plain JSON values with the trial, such as ``run_dir`` and ``cost``.

        Raises:
            ConfigError: a value is not plain JSON.
            LeaseError: the trial was given back to the queue.
        """
        for name, value in values.items():
            self._note(name, plain(value, name))

    def complete(self, values: Sequence[float]) -> None:
        """Store the values of the metrics. With a NaN or infinity among them the trial has failed, and is not retried.

        Args:
            values: one for each metric.

        Raises:
            ConfigError: there are more or fewer values than metrics.
            LeaseError: the trial was given back to the queue; the values are refused.
            StudyError: the outcome was said before, or the database was away for too long.
        """
        numbers = [float(value) for value in values]
        if len(numbers) != len(self._terms.metrics):
            raise ConfigError(f"Invalid values={numbers!r}. Must be one for each of {', '.join(self._terms.metrics)}.")
        bad = [f"{name}={x}" for name, x in zip(self._terms.metrics, numbers, strict=True) if not math.isfinite(x)]
        if bad:
            self._fail(f"Invalid {', '.join(bad)}. Must be finite.", "diverged")
        else:
            self._finish(TrialState.COMPLETE, numbers)

    def prune(self, value: float, fidelity: float, why: str) -> None:
        """Say that the trial was stopped early; it counts as evaluated.

        Args:
            value: of the first metric when it was stopped.
            fidelity: what had been spent by then, in the unit of the steps of :meth:`report`.
            why: the scheduler's reason.

        Raises:
            LeaseError: the trial was given back to the queue.
            StudyError: the outcome was said before, or the database was away for too long.
        """
        if not self._has_reported:  # samplers learn from a pruned trial by its last intermediate value
            self.report(value, int(fidelity))
        self._finish(
            TrialState.PRUNED,
            outcome={"kind": "pruned", "why": why, "value": _finite(value), "fidelity": float(fidelity)},
        )

    def fail(self, why: str, kind: Literal["failed", "preempted", "infeasible"] = "failed") -> None:
        """Say that the trial has no value.

        Args:
            why: one line.
            kind: ``"failed"``: its own fault, tried again with the same parameters as often as the terms say.
                ``"preempted"``: not its fault, goes back to the queue with the same parameters. ``"infeasible"``: not
                trained, another suggestion takes its place.

        Raises:
            ConfigError: the kind is unknown.
            LeaseError: the trial was given back to the queue already.
            StudyError: the outcome was said before, or the database was away for too long.
        """
        if kind not in {"failed", "preempted", "infeasible"}:
            raise ConfigError(f"Invalid kind={kind!r}. Must be failed, preempted or infeasible.")
        self._fail(why, kind)

    def __reduce__(self) -> str:
        raise StudyError("A trial is never pickled, since it knows a password. Send its parameters and its number.")

    def _fail(self, why: str, kind: Kind) -> None:
        self._finish(TrialState.FAIL, outcome={"kind": kind, "why": why})

    def _note(self, name: str, value: object) -> None:
        if name.startswith(_RESERVED):
            raise ConfigError(f"Invalid note {name!r}. Must not start with {_RESERVED!r}.")
        self._deliver(lambda: self._storage.set_trial_user_attr(self._id, name, value))

    def _deliver(self, write: Callable[[], object]) -> None:
        """Write at once if the database is there, else later; in order either way."""
        self._undelivered.append(write)
        if self._storage.link.is_away:
            return
        try:
            with self._storage.link.patience(0):
                self._flush()
        except UpdateFinishedTrialError:
            pass
        except StudyError:
            return
        else:
            return
        raise self._refused()

    def _flush(self) -> None:
        while self._undelivered:
            self._undelivered[0]()
            self._undelivered.popleft()

    def _finish(
        self, state: TrialState, values: list[float] | None = None, outcome: Mapping[str, Json] | None = None
    ) -> None:
        if self._is_finished:
            raise StudyError(f"Trial {self.number} has its outcome already. It never changes.")
        try:
            self._flush()
            if outcome is not None:
                self._storage.set_trial_user_attr(self._id, OUTCOME, dict(outcome))
            self._study.tell(self.suggest, values, state)
        except (UpdateFinishedTrialError, ValueError):
            # ValueError: Optuna's tell looks before it writes. Either way somebody has finished the trial.
            ours = self._is_stored(state, outcome)
        else:
            ours = True
        self._is_finished = True
        self._leases.drop(self._id)
        if not ours:
            raise self._refused()

    def _is_stored(self, state: TrialState, outcome: Mapping[str, Json] | None) -> bool:
        """Return whether the outcome stored is the one we said, and only the database's answer was lost."""
        stored = self._storage.get_trial(self._id)
        assert stored.state.is_finished(), "only a finished trial refuses its outcome"
        # Who takes a trial away stores no outcome, and nobody but the owner stores COMPLETE or PRUNED.
        return stored.state == state and stored.user_attrs.get(OUTCOME) == (None if outcome is None else dict(outcome))

    def _refused(self) -> LeaseError:
        self._leases.drop(self._id)
        return LeaseError(
            f"Trial {self.number} was given back to the queue, because its driver had been silent for too long; "
            "its result is refused. Another driver runs it again."
        )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
