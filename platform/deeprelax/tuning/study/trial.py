"""A claimed trial: what a driver may say about it, and what happens to late results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, cast

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from deeprelax.errors import ConfigError, LeaseError, StudyError
from deeprelax.tuning.study.leases import Leases
from deeprelax.tuning.study.ledger import OUTCOME, Kind
from deeprelax.tuning.study.outbox import Ending, LaterParameters, Write, store
from deeprelax.tuning.study.storage import PatientStorage
from deeprelax.tuning.study.terms import Json, Terms, plain

_RESERVED = "deeprelax:"
REPORT = "deeprelax:report"


class Trial:
    """One trial that this driver has claimed.

    Its outcome is said once, by :meth:`complete`, :meth:`prune` or :meth:`fail`. Each of these waits for a database
    that is away; :meth:`report` and :meth:`note` do not wait, what they say is delivered later. What several trials say
    is one transaction inside :func:`~deeprelax.tuning.study.together`.

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
        self._id, self._terms, self._leases = trial_id, terms, leases
        self.storage = storage
        self.ending: Ending | None = None
        """What was said of its end, and is not stored yet."""
        self._said: list[Write] = []
        self._reports: dict[int, float] = {}
        self._is_held_back = False
        self._is_finished = False
        self._is_refused = False
        self.suggest = optuna.Trial(study, trial_id)
        """Optuna's trial, to be asked for the values of the parameters."""
        self._at_once = self.suggest.storage
        self._later = cast("BaseStorage", LaterParameters(self._at_once, self._said))

    @property
    def number(self) -> int:
        """The number of the trial in its study."""
        return self.suggest.number

    @property
    def is_lost(self) -> bool:
        """Whether the trial was given back to the queue meanwhile; training it on is in vain."""
        # The thread that renews leases may find our own outcome before we hear that it was stored.
        return self._is_refused or (not self._is_finished and self._leases.is_lost(self._id))

    def refuse_lost(self) -> None:
        """Raise if the trial was given back to the queue.

        Raises:
            LeaseError: it was; what was said of it is refused.
        """
        if not self.is_lost:
            return
        raise LeaseError(
            f"Trial {self.number} was given back to the queue, because its driver had been silent for too long; "
            "its result is refused. Another driver runs it again."
        )

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
        self._reports[int(step)] = float(value)
        if len(self._terms.metrics) > 1:
            newest: dict[str, Json] = {"value": _finite(value), "step": int(step)}
            self._say(lambda: self.storage.set_trial_user_attr(self._id, REPORT, newest))
        else:
            self._say(lambda: self.storage.set_trial_intermediate_value(self._id, int(step), float(value)))

    def note(self, **values: Json) -> None:
        """Store plain JSON values with the trial, such as ``run_dir`` and ``cost``.

        Raises:
            ConfigError: a value is not plain JSON.
            LeaseError: the trial was given back to the queue.
        """
        checked = {name: plain(value, name) for name, value in values.items()}
        for name in checked:
            if name.startswith(_RESERVED):
                raise ConfigError(f"Invalid note {name!r}. Must not start with {_RESERVED!r}.")
        self._say(*(partial(self.storage.set_trial_user_attr, self._id, *item) for item in checked.items()))

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
        if not self._reports:  # samplers learn from a pruned trial by its last intermediate value
            self.report(value, int(fidelity))
        self._finish(
            TrialState.PRUNED,
            self._last_reported(),
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

    def hold_back(self, now: bool = True) -> None:
        """Store nothing of what is said from now on until it is asked for, as ``together`` does; or store it again."""
        self._is_held_back = now
        self.suggest.storage = self._later if now else self._at_once

    @property
    def unstored(self) -> list[Write]:
        """What the database has not been told, in order."""
        if self.ending is None:
            return self._said
        state, values, outcome = self.ending.state, self.ending.values, self.ending.outcome
        said = [] if outcome is None else [partial(self.storage.set_trial_user_attr, self._id, OUTCOME, dict(outcome))]
        # Not Optuna's tell: it reads the trial twice, and our samplers have nothing to do after a trial.
        return [*self._said, *said, partial(self.storage.set_trial_state_values, self._id, state, values)]

    def stored(self, *, refused: bool) -> None:
        """Hear that the database was told, or that somebody had finished the trial before."""
        self._said.clear()
        if self.ending is not None:
            # Refused too if only the database's answer was lost.
            refused = refused and not self._is_stored(self.ending)
            self.ending, self._is_finished = None, True
        if refused or self._is_finished:
            self._leases.drop(self._id)
        self._is_refused = refused

    def _last_reported(self) -> list[float] | None:
        """Return what samplers take for the value of a pruned trial."""
        last = self._reports[max(self._reports)]
        return [last] if len(self._terms.metrics) == 1 and math.isfinite(last) else None

    def _say(self, *writes: Write) -> None:
        self._said += writes
        if not self._is_held_back:
            store([self])
            self.refuse_lost()

    def _finish(
        self, state: TrialState, values: list[float] | None = None, outcome: Mapping[str, Json] | None = None
    ) -> None:
        if self._is_finished:
            raise StudyError(f"Trial {self.number} has its outcome already. It never changes.")
        self.ending = Ending(state, values, outcome)
        if not self._is_held_back:
            store([self])
            self.refuse_lost()

    def _is_stored(self, ending: Ending) -> bool:
        """Return whether the outcome stored is the one we said, and only the database's answer was lost."""
        stored = self.storage.get_trial(self._id)
        assert stored.state.is_finished(), "only a finished trial refuses its outcome"
        # Who takes a trial away stores no outcome, and nobody but the owner stores COMPLETE or PRUNED.
        said = None if ending.outcome is None else dict(ending.outcome)
        return stored.state == ending.state and stored.user_attrs.get(OUTCOME) == said


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
