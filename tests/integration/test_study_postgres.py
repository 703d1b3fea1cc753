"""A study in a real PostgreSQL: drivers and the database die with SIGKILL, and the books stay right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from sqlalchemy import text
from tests.faults import study_driver
from tests.faults.postgres import BIN, PASSWORD, QUOTED, USER, Postgres
from tests.unit.tuning.conformance import StudyStorageCase
from tests.unit.tuning.studies import terms

from deeprelax.errors import StudyError
from deeprelax.tuning.study import Study, list_studies
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.storage import PatientStorage, open_storage

TRIALS = 24


@pytest.fixture(scope="module")
def postgres(needs: Callable[[str, str], None]) -> Iterator[Postgres]:
    needs("postgresql", str(BIN / "initdb"))
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def shared(postgres: Postgres) -> Iterator[PatientStorage]:
    with closing(open_storage(Address(postgres.url()), grace_s=45, patience_s=10)) as storage:
        yield storage


class TestPostgreSQL(StudyStorageCase):
    """Optuna's own suite of what a storage must do."""

    @pytest.fixture
    def storage(self, shared: PatientStorage) -> Iterator[BaseStorage]:
        yield shared
        for study in shared.get_all_studies():
            shared.delete_study(shared.get_study_id_from_name(study.study_name))


def test_drivers_and_the_database_are_killed_and_no_trial_is_lost_or_counted_twice(
    postgres: Postgres, tmp_path: Path
) -> None:
    _database(postgres, "sweeps")
    url = postgres.url(database="sweeps")  # empty: the three make the tables at the same moment
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    drivers = [_start(url, log) for log in logs]
    try:
        _until(lambda: all(_events(log, "complete") for log in logs), drivers)
        _until(lambda: len(_events(logs[0], "claimed")) > len(_events(logs[0], "complete")), drivers)
        drivers[0].kill()
        _until(lambda: sum(len(_events(log, "complete")) for log in logs) >= 8, drivers[1:])
        postgres.kill()
        time.sleep(1)  # the drivers train on meanwhile
        postgres.start()
        for driver in drivers[1:]:
            assert driver.wait(timeout=60) == 0, _said(logs)
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
    _check_books(url, logs)


def _check_books(url: str, logs: list[Path]) -> None:
    with Study.open("shared", url=url) as study:
        assert study.finished
        counts = study.counts()
        assert counts["complete"] == TRIALS
        assert counts["running"] == counts["waiting"] == 0
        assert counts["asked"] == TRIALS + counts["lost"] + counts["preempted"]
        trials = {trial.number: trial for trial in study.trials()}
    done = [trial for trial in trials.values() if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["deeprelax:slot"] for trial in done) == list(range(TRIALS))
    assert all(trial.values == [study_driver.loss(trial.params["x"])] for trial in done)
    claimed = [number for log in logs for number, _ in _events(log, "claimed")]
    assert len(claimed) == len(set(claimed)), "a trial has one owner, ever"
    for log in logs:
        for number, value in _events(log, "complete"):
            assert trials[number].values == [value], "what a driver was told is stored"
        for number, _ in _events(log, "refused"):
            assert trials[number].state == TrialState.FAIL
    assert len({trial.user_attrs["deeprelax:driver"]["pid"] for trial in done}) == 3


def test_a_result_waits_for_a_database_that_is_away(postgres: Postgres) -> None:
    _database(postgres, "away")
    with Study.open("patient", terms(trials=2), url=postgres.url(database="away"), heartbeat_s=3600) as study:
        trial = study.ask()
        assert trial is not None
        trial.suggest.suggest_float("x", 0, 1)
        postgres.kill()
        try:
            trial.report(0.5, 1)
            trial.note(run_dir="runs/1")
            assert study.reclaim() == 0
            assert not study.stop_requested
        finally:
            postgres.start()
        trial.complete([0.25])
        (found, _) = study.trials()
        assert (found.values, found.intermediate_values) == ([0.25], {1: 0.5})
        assert found.user_attrs["run_dir"] == "runs/1"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": "wrong-secret"}, "user or password is wrong"),
        ({"database": "nowhere"}, "the database does not exist"),
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(postgres: Postgres, change: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study.open("any", terms(), url=postgres.url(**change))
    told = "".join(traceback.format_exception(caught.value))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"postgresql+psycopg://{USER}:***@127.0.0.1" in str(caught.value)
    assert caught.value.__context__ is None
    for secret in ("wrong-secret", PASSWORD, QUOTED):
        assert secret not in told


def test_the_password_is_in_no_representation(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    _database(postgres, "quiet")
    url = postgres.url(database="quiet")
    with Study.open("quiet", terms(trials=1), url=url) as study:
        trial = study.ask()
        assert trial is not None
        seen = [repr(study), repr(trial), repr(study._storage), str(study._storage.link.address), repr(study.trials())]
        assert [found.name for found in list_studies(url)] == ["quiet"]
    with study._storage.engine.connect() as connection:
        stored = [str(row) for row in connection.execute(text("SELECT value_json FROM study_user_attributes"))]
        stored += [str(row) for row in connection.execute(text("SELECT value_json FROM trial_user_attributes"))]
    study._storage.close()
    for part in (*seen, *stored, caplog.text):
        assert PASSWORD not in part
        assert QUOTED not in part


def test_leases_are_kept_in_utc(shared: PatientStorage) -> None:
    with shared.engine.connect() as connection:
        assert connection.execute(text("SHOW timezone")).scalar() == "UTC"


def _database(postgres: Postgres, name: str) -> None:
    storage = open_storage(Address(postgres.url()), grace_s=45, patience_s=10)
    with closing(storage), storage.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))


def _start(url: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", study_driver.__file__, "shared", str(log), str(TRIALS)]
    with log.with_suffix(".err").open("w") as errors:
        return subprocess.Popen(command, env=os.environ | {"DEEPRELAX_STUDY": url}, stderr=errors)


def _events(log: Path, kind: str) -> list[tuple[int, float]]:
    if not log.exists():
        return []
    rows = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [(number, value) for event, number, value in rows if event == kind]


def _said(logs: list[Path]) -> str:
    return "\n".join(log.with_suffix(".err").read_text() for log in logs)


def _until(holds: Callable[[], bool], drivers: list[subprocess.Popen[bytes]], timeout_s: float = 60) -> None:
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up
        for driver in drivers:
            assert driver.poll() is None, "a driver has ended too early"
        time.sleep(0.02)
