"""The study behind a sweep: a queue of trials in a database that any number of drivers work on."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials, get_storage
from optuna.trial import FrozenTrial, TrialState, create_trial

from deeprelax.errors import StudyError
from deeprelax.tuning.study import leases as lease
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.driver import describe_driver
from deeprelax.tuning.study.joining import Joined, join
from deeprelax.tuning.study.ledger import ATTEMPT, DRIVER, RETRY_OF, SLOT, Attempt, Ledger
from deeprelax.tuning.study.link import OPENING_S, PATIENCE_S
from deeprelax.tuning.study.samplers import sampler_for
from deeprelax.tuning.study.storage import PatientStorage, open_storage, quiet
from deeprelax.tuning.study.terms import Json, Terms
from deeprelax.tuning.study.trial import Trial

STOP = "deeprelax:stop"


class Study:
    """A study that is open. Make one with :meth:`open`; close it, or use it as a context manager.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> terms = Terms(metrics=("loss",), directions=("minimize",), space={}, trials=2, sampler="random")
        >>> with Study.open("parabola", terms, url=f"sqlite:///{folder.name}/studies.db") as study:
        ...     while trial := study.ask():
        ...         x = trial.suggest.suggest_float("x", -1, 1)
        ...         trial.complete([x**2])
        ...     study.finished, study.counts()["complete"]
        (True, 2)
        >>> folder.cleanup()
    """

    def __init__(self, name: str, joined: Joined, storage: PatientStorage, driver: Mapping[str, Json]) -> None:
        self.name = name
        self.terms = joined.terms
        self._id, self._first = joined.study_id, joined.first
        self._storage, self._driver = storage, driver
        self._cached: BaseStorage = get_storage(storage)
        self._plain = optuna.Study(name, self._cached)
        self._attributes = storage.get_study_user_attrs(self._id)
        self._stop_at_start = self._attributes.get(STOP)
        self.leases: lease.Leases

    @classmethod
    def open(
        cls,
        name: str,
        terms: Terms | None = None,
        *,
        url: str | None = None,
        first: Sequence[Mapping[str, object]] = (),
        cluster: dict[str, Json] | None = None,
        heartbeat_s: float = lease.HEARTBEAT_S,
        grace_s: float = lease.GRACE_S,
        patience_s: float = PATIENCE_S,
    ) -> Self:
        """Make the study, or join it.

        Args:
            name: of the study; one database holds many.
            terms: what the drivers agree on. None joins a study that must exist, with its own terms.
            url: of the database, see :class:`~deeprelax.tuning.study.address.Address`.
            first: parameters to try first, by name, if the study is new. With ``sampler="grid"`` the whole grid.
            cluster: what is known of this driver's cluster, such as its ``cluster_id``; stored with its trials.
            heartbeat_s: seconds between two renewals of the leases.
            grace_s: seconds without renewal after which a trial is given back to the queue. The same for all drivers.
            patience_s: seconds to wait for a database that is away before a result is given up.

        Raises:
            ConfigError: the name, the terms or the URL cannot be.
            StudyError: the database cannot be used; the study is unknown, made by another tool or has other terms.
        """
        address = Address(url)
        if terms is None and address.is_file and not address.file.exists():
            raise StudyError(f"Unknown study {name!r}: no file {address.file}. Give its database with --study.")
        storage = open_storage(address, grace_s=grace_s, patience_s=patience_s)
        try:
            with storage.link.patience(OPENING_S):
                study = cls(name, join(storage, name, terms, first), storage, describe_driver(cluster))
            study._settled()  # makes the trials, also those that a creator who died has left out
        except BaseException:
            storage.close()
            raise
        study._hold_leases(heartbeat_s, grace_s)
        return study

    @property
    def finished(self) -> bool:
        """Whether all trials have their outcome."""
        return self._ledger().done == self.terms.trials

    @property
    def stop_requested(self) -> bool:
        """Whether any driver has asked all drivers to stop since this one has opened the study."""
        try:
            with self._storage.link.patience(0):
                self._attributes = self._storage.get_study_user_attrs(self._id)
        except (KeyError, StudyError):  # the study was deleted, or the database is away: what it said last
            pass
        return bool(self._attributes.get(STOP) != self._stop_at_start)

    def request_stop(self) -> None:
        """Ask all drivers that have the study open to stop: none of them gets another trial."""
        self._storage.set_study_user_attr(self._id, STOP, uuid.uuid4().hex)

    def ask(self) -> Trial | None:
        """Claim the next waiting trial, or return None when none waits now or a stop was requested.

        Ask again later as long as the study is not :attr:`finished`: a running trial may come back to the queue.

        Raises:
            StudyError: the database was away for too long.
        """
        return next(iter(self.ask_some(1)), None)

    def ask_some(self, most: int, share: int = 1) -> list[Trial]:
        """Claim the next waiting trials in one transaction; none when none waits now or a stop was requested.

        A trial that runs again comes alone: perhaps it is what has ended its process.

        Args:
            most: trials to claim, at least 1.
            share: among how many the waiting ones are shared: no more than one in so many is claimed, rounded down,
                though at least one.

        Raises:
            StudyError: the database was away for too long.
        """
        if self.stop_requested:
            return []
        return self._begun(self._claim(self._settled(), most, share))

    def reclaim(self) -> int:
        """Give the trials of silent drivers back to the queue; return how many this call has given back.

        Call it every few seconds. It does not wait, and nothing happens while the database is away or has just come
        back, see :mod:`deeprelax.tuning.study.leases`.
        """
        try:
            with self._storage.link.patience(0):
                self.leases.renew()
                if not self.leases.may_judge:
                    return 0
                before = self._ledger().counts()["lost"]
                with quiet():
                    fail_stale_trials(self._optuna())
                return self._settled().counts()["lost"] - before
        except (KeyError, StudyError):
            return 0

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state.

        ``waiting running complete pruned failed preempted lost infeasible``, and ``asked``, their sum. A trial that
        ran again counts once for each time.
        """
        return self._ledger().counts()

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number."""
        return self._ledger(copied=True).trials

    def close(self) -> None:
        """Give trials that still run back to the queue, and leave the study."""
        self.leases.stop()
        try:
            with self._storage.link.patience(OPENING_S):
                for trial_id in self.leases.held:
                    self._give_back(trial_id)
        except (KeyError, StudyError):  # the study was deleted, or the database is away: the leases end by themselves
            pass
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise StudyError("A study is never pickled, since it knows a password. Send its name and open it there.")

    def _ledger(self, *, copied: bool = False) -> Ledger:
        try:
            trials = self._cached.get_all_trials(self._id, deepcopy=copied)
        except KeyError:  # Optuna's word for it
            problem = f"Study {self.name!r} was deleted from {self._storage.link.address}."
        else:
            return Ledger.of(trials, self.terms)
        raise StudyError(problem)

    def _settled(self) -> Ledger:
        """Return the ledger after all missing trials are made and duplicates are out of the way."""
        while True:
            ledger = self._ledger()
            waiting = [trial for trial in ledger.duplicates if trial.state == TrialState.WAITING]
            missing = ledger.missing()
            if not missing and not waiting:
                return ledger
            for trial in waiting:
                self._remove(trial)
            self._storage.together(partial(self._make, *missing))

    def _make(self, *attempts: Attempt) -> None:
        for attempt in attempts:
            self._storage.create_new_trial(self._id, self._template(attempt))

    def _template(self, attempt: Attempt) -> FrozenTrial:
        attributes: dict[str, Json] = {SLOT: attempt.slot, ATTEMPT: attempt.number}
        fixed: dict[str, object] = {}
        if attempt.previous is not None:
            attributes[RETRY_OF] = attempt.previous.number
            fixed = {**attempt.previous.system_attrs.get("fixed_params", {}), **attempt.previous.params}
        elif attempt.number == 0 and attempt.slot < len(self._first):
            fixed = dict(self._first[attempt.slot])
        system = {"fixed_params": fixed} if fixed else {}
        return create_trial(state=TrialState.WAITING, user_attrs=attributes, system_attrs=system)

    def _claim(self, ledger: Ledger, most: int, share: int) -> list[FrozenTrial]:
        """Claim waiting trials for this driver; what is to follow them is made as well."""
        most = max(1, min(most, ledger.counts()["waiting"] // share))

        def claim() -> list[FrozenTrial]:
            claimed: list[FrozenTrial] = []
            for waiting in ledger.waiting:
                again = RETRY_OF in waiting.user_attrs
                if (again and claimed) or not self._take(self._trial_id(waiting)):
                    continue
                claimed.append(waiting)
                if again or len(claimed) == most:
                    break
            self._make(*filter(None, map(ledger.following, claimed)))
            return claimed

        return self._storage.together(claim)

    def _take(self, trial_id: int) -> bool:
        """Take a waiting trial; return whether this driver was the first."""
        try:
            if not self._storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return False
        except UpdateFinishedTrialError:
            return False
        # In one transaction, so no running trial is ever without a lease, nor without an owner.
        self._storage.record_heartbeat(trial_id)
        self._storage.set_trial_user_attr(trial_id, DRIVER, self._driver)
        return True

    def _begun(self, claimed: Sequence[FrozenTrial]) -> list[Trial]:
        trial_ids = [self._trial_id(trial) for trial in claimed]
        for trial_id in trial_ids:
            self.leases.hold(trial_id)
        try:
            return [
                Trial(self._optuna(trial.number), trial_id, self.terms, self._storage, self.leases)
                for trial, trial_id in zip(claimed, trial_ids, strict=True)
            ]
        except BaseException:
            for trial_id in trial_ids:
                self.leases.drop(trial_id)  # nobody would ever end it
            raise

    def _trial_id(self, trial: FrozenTrial) -> int:
        return self._cached.get_trial_id_from_study_id_trial_number(self._id, trial.number)

    def _optuna(self, number: int = 0) -> optuna.Study:
        study = copy.copy(self._plain)  # a new one would ask the database for what is known
        study.sampler = sampler_for(self.terms, number)
        return study

    def _remove(self, duplicate: FrozenTrial) -> None:
        self._storage.fail(
            self._trial_id(duplicate), {"kind": "duplicate", "why": "made by two drivers at the same time"}
        )

    def _give_back(self, trial_id: int) -> None:
        self._storage.fail(trial_id, {"kind": "preempted", "why": "its driver has left the study"})

    def _hold_leases(self, heartbeat_s: float, grace_s: float) -> None:
        self.leases = lease.Leases(self._renew, every_s=heartbeat_s, grace_s=grace_s)
        self.leases.start()

    def _renew(self, trial_ids: Sequence[int]) -> set[int]:
        with self._storage.link.patience(0):
            self._attributes = self._storage.get_study_user_attrs(self._id)  # in touch even if no trial is held
            return self._storage.renew(trial_ids) if trial_ids else set()
