"""The storage is Optuna's in every respect, and stays right where SQLite's own transactions do not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from tests.unit.tuning.studies import prepared

from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.storage import _TRANSACTIONS, PatientStorage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[PatientStorage]:
    with closing(open_storage(Address(prepared(tmp_path)), grace_s=45, patience_s=10)) as opened:
        yield opened


def test_every_call_of_optuna_to_the_database_is_patient() -> None:
    own = {name for name, value in vars(RDBStorage).items() if "_create_scoped_session" in _names(value)}
    assert own <= set(_TRANSACTIONS)


def _names(value: object) -> tuple[str, ...]:
    code = getattr(value, "__code__", None)
    return () if code is None else tuple(code.co_names)


def test_one_of_many_finishes_a_trial(tmp_path: Path, storage: PatientStorage) -> None:
    """With transactions that begin at the first write, several of them do, and the last value stays."""
    study = storage.create_new_study([StudyDirection.MINIMIZE], "race")
    others = [open_storage(Address(prepared(tmp_path)), grace_s=45, patience_s=10) for _ in range(4)]
    for _ in range(8):
        trial_id = storage.create_new_trial(study, create_trial(state=TrialState.WAITING))
        start = threading.Barrier(len(others))

        def claim(own: PatientStorage, trial_id: int = trial_id, start: threading.Barrier = start) -> tuple[bool, bool]:
            start.wait()
            won = own.set_trial_state_values(trial_id, TrialState.RUNNING)
            start.wait()
            try:
                return won, own.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
            except UpdateFinishedTrialError:
                return won, False

        with ThreadPoolExecutor(len(others)) as pool:
            outcomes = list(pool.map(claim, others))
        assert sum(won for won, _ in outcomes) == 1
        assert sum(finished for _, finished in outcomes) == 1
    for own in others:
        own.close()
