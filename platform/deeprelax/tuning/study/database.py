"""A database of studies as somebody sees it who runs none of their trials: reads, stops, marks trials as failed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from optuna.storages import BaseStorage, get_storage
from optuna.trial import FrozenTrial, TrialState

from deeprelax.errors import StudyError
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.joining import TERMS, unknown
from deeprelax.tuning.study.leases import GRACE_S
from deeprelax.tuning.study.ledger import Ledger
from deeprelax.tuning.study.link import OPENING_S
from deeprelax.tuning.study.storage import PatientStorage, open_storage
from deeprelax.tuning.study.study import STOP
from deeprelax.tuning.study.terms import Terms


@dataclass(frozen=True)
class Listed:
    """A study in a list.

    Args:
        name: of the study.
        terms: what its drivers agreed on.
        counts: see :meth:`Study.counts <deeprelax.tuning.study.study.Study.counts>`.
        done: how many of its trials have their outcome.
    """

    name: str
    terms: Terms
    counts: Mapping[str, int]
    done: int


class Database:
    """Studies of one database. Close it, or use it as a context manager.

    Args:
        url: see :class:`~deeprelax.tuning.study.address.Address`.

    Raises:
        StudyError: the database cannot be reached or used.
    """

    def __init__(self, url: str | None = None) -> None:
        self.address = Address(url)
        self.storage: PatientStorage = open_storage(self.address, grace_s=GRACE_S, patience_s=OPENING_S)
        self._cached: BaseStorage = get_storage(self.storage)

    def studies(self) -> list[Listed]:
        """Return the studies, oldest first; those of other tools are left out."""
        found = []
        for study in self.storage.get_all_studies():
            if TERMS in study.user_attrs:
                terms = Terms.from_json(study.user_attrs[TERMS])
                ledger = Ledger.of(self._cached.get_all_trials(self._id(study.study_name), deepcopy=False), terms)
                found.append(Listed(study.study_name, terms, ledger.counts(), ledger.done))
        return found

    def terms(self, name: str) -> Terms:
        """Return what the drivers of a study have agreed on.

        Raises:
            StudyError: there is no such study, or it was made by another tool.
        """
        stored = self.storage.get_study_user_attrs(self._id(name)).get(TERMS)
        if stored is None:
            raise StudyError(f"Study {name!r} in {self.address} was not made by deeprelax.")
        return Terms.from_json(stored)

    def ledger(self, name: str) -> Ledger:
        """Return what the trials of a study amount to; the trials are not to be changed.

        Raises:
            StudyError: as :meth:`terms`.
        """
        return Ledger.of(self._cached.get_all_trials(self._id(name), deepcopy=False), self.terms(name))

    def request_stop(self, name: str) -> None:
        """Ask all drivers that have the study open to stop: none of them begins another trial.

        Raises:
            StudyError: there is no such study.
        """
        self.storage.set_study_user_attr(self._id(name), STOP, uuid.uuid4().hex)

    def fail(self, name: str, number: int, why: str) -> None:
        """End a running trial as failed; its driver hears of it and its slot goes on as after any failure.

        Args:
            name: of the study.
            number: of the trial.
            why: one line.

        Raises:
            StudyError: there is no such study or trial, or the trial does not run.
        """
        trial = next((trial for trial in self.ledger(name).trials if trial.number == number), None)
        if trial is None or trial.state != TrialState.RUNNING:
            raise StudyError(f"Invalid trial {number} of {name!r}: {_state(trial)}. Must be running.")
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self._id(name), number)
        if not self.storage.fail(trial_id, {"kind": "failed", "why": why}):
            raise StudyError(f"Invalid trial {number} of {name!r}: it has just ended by itself.")

    def close(self) -> None:
        """Close all connections."""
        self.storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _id(self, name: str) -> int:
        try:
            return self.storage.get_study_id_from_name(name)
        except KeyError:
            raise unknown(self.storage, name) from None


def _state(trial: FrozenTrial | None) -> str:
    return "there is none" if trial is None else f"it is {trial.state.name.lower()}"
