"""Optuna's database storage, made safe for drivers that meet at one database and for a database that goes away.

What is added to :class:`optuna.storages.RDBStorage`:

- Each call waits for a database that is away (:class:`~deeprelax.tuning.study.link.Link`).
- Several calls can be one transaction (:meth:`PatientStorage.together`).
- SQLite transactions begin IMMEDIATE. By default they begin at the first write, so two drivers that claim a trial at
  the same time both read WAITING and both write RUNNING: SQLite has no ``SELECT ... FOR UPDATE``.
- PostgreSQL sessions keep UTC. Optuna stores heartbeats without a time zone, so in local time all leases would end when
  summer time begins. Dead connections are noticed within seconds.
- It cannot be pickled: its pickle would hold the password.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel
from optuna.trial import TrialState
from sqlalchemy import Connection, event, func, select, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from deeprelax.errors import StudyError
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.ledger import OUTCOME
from deeprelax.tuning.study.link import OPENING_S, Link
from deeprelax.tuning.study.problems import MISSING_DRIVER
from deeprelax.tuning.study.session import JoinedSession
from deeprelax.tuning.study.terms import Json

BUSY_S = 30
"""Seconds to wait for another process's transaction on an SQLite file."""

_POSTGRESQL = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c timezone=UTC",
}

# Each is one transaction, repeated if the database's answer was lost, perhaps after it was committed. Done twice, it
# makes a duplicate trial, which the ledger sorts out, or is refused by a trial that is finished already.
_TRANSACTIONS = (
    "create_new_study",
    "delete_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "_create_new_trial",
    "_set_trial_param",
    "get_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial_id_from_study_id_trial_number",
    "get_trial",
    "get_trial_user_attrs",
    "get_trial_system_attrs",
    "_get_trials",
    "_get_best_trial_id",
    "record_heartbeat",
    "_get_stale_trial_ids",
)

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class PatientStorage(RDBStorage):
    """The storage of one database.

    Args:
        link: to the database.
        grace_s: seconds without heartbeat after which a running trial is lost.
    """

    def __init__(self, link: Link, *, grace_s: float) -> None:
        self.link = link
        is_file = link.address.is_file
        try:
            with quiet():
                super().__init__(
                    link.address.secret(),
                    engine_kwargs={"connect_args": {"timeout": BUSY_S}}
                    if is_file
                    else {"connect_args": _POSTGRESQL, "pool_pre_ping": True},
                    heartbeat_interval=1,  # any number: our own thread beats, this only switches the mechanism on
                    grace_period=grace_s,  # type: ignore[arg-type]  # seconds of a timedelta, so fractions are right
                )
        except BaseException:
            # Of drivers that make the tables at the same time all but one try again, with a connection of their own.
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        if is_file:
            event.listen(self.engine, "connect", _prepare_file)
            event.listen(self.engine, "begin", _begin_immediately)
            self.engine.dispose()  # the connections made so far do not know these
        self.scoped_session = scoped_session(sessionmaker(bind=self.engine, class_=JoinedSession))

    def __getstate__(self) -> dict[object, object]:
        raise StudyError("A study is never pickled, since it knows a password. Send its name and open it there.")

    @property
    def session(self) -> JoinedSession:
        """Return this thread's session."""
        session = self.scoped_session()
        assert isinstance(session, JoinedSession)
        return session

    def together(self, operation: Callable[[], _Result]) -> _Result:
        """Return what ``operation`` returns; its calls of this storage are one transaction, repeated as a whole.

        It must be short, since SQLite has one writer at a time, and change nothing but the database. It may not read
        through Optuna's cache, which would keep what is rolled back.
        """
        session = self.session

        def once() -> _Result:
            with session.as_one():
                return operation()

        return self.link.call(once)

    def renew(self, trial_ids: Sequence[int]) -> set[int]:
        """Renew the leases of trials that have one, in one transaction; return those that are finished."""
        beat = (
            update(TrialHeartbeatModel).where(TrialHeartbeatModel.trial_id.in_(trial_ids)).values(heartbeat=func.now())
        )
        finished = select(TrialModel.trial_id).where(
            TrialModel.trial_id.in_(trial_ids), TrialModel.state.not_in((TrialState.WAITING, TrialState.RUNNING))
        )

        def once() -> set[int]:
            self.session.execute(beat, execution_options={"synchronize_session": False})
            return set(self.session.scalars(finished))

        return self.together(once)

    def fail(self, trial_id: int, outcome: Mapping[str, Json]) -> bool:
        """End a trial as failed; return whether it had not ended before."""
        try:
            self.set_trial_user_attr(trial_id, OUTCOME, dict(outcome))
            return self.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def close(self) -> None:
        """Close all connections."""
        self.remove_session()
        self.engine.dispose()


def open_storage(address: Address, *, grace_s: float, patience_s: float) -> PatientStorage:
    """Return the storage at ``address``; tables that are missing are made.

    Raises:
        StudyError: the database cannot be reached or used, or psycopg is missing.
    """
    if address.is_file:
        _make_folder(address)
    link = Link(address, patience_s)
    with link.patience(OPENING_S):
        try:
            return link.call(lambda: PatientStorage(link, grace_s=grace_s))
        except ImportError:
            problem = MISSING_DRIVER
        except RuntimeError as error:  # Optuna's words for tables of another version of its own
            problem = f"Cannot use the study database {address}: {address.scrub(str(error))}"
    raise StudyError(problem)  # outside of the except block, so that the driver's error is not attached


def _make_folder(address: Address) -> None:
    folder = address.file.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
    else:
        return
    raise StudyError(f"Cannot use the study database {address}: {folder}: {reason}. Give a file in another folder.")


def _patient(method: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    @functools.wraps(method)
    def call(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        storage = args[0]
        assert isinstance(storage, PatientStorage)
        if storage.session.is_joined:
            return method(*args, **kwargs)  # the whole transaction is repeated, not a part of it
        return storage.link.call(lambda: method(*args, **kwargs))

    return call


for _name in _TRANSACTIONS:
    setattr(PatientStorage, _name, _patient(getattr(RDBStorage, _name)))


def _prepare_file(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # SQLAlchemy begins the transactions, not sqlite3
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin_immediately(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back Optuna's notes that something is experimental, and that a study was created."""
    logger = logging.getLogger("optuna.storages")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(before)
