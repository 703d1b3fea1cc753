"""A study in a real PostgreSQL: Optuna's own suite, a database that goes away, a password that nobody sees."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from optuna.storages import BaseStorage
from sqlalchemy import text
from tests.faults.postgres import PASSWORD, QUOTED, USER, Postgres
from tests.unit.tuning.conformance import StudyStorageCase
from tests.unit.tuning.studies import terms

from deeprelax.errors import StudyError
from deeprelax.tuning.study import Study, list_studies
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.storage import PatientStorage, open_storage

pytestmark = pytest.mark.xdist_group("postgresql")  # one server for all


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


def test_a_result_waits_for_a_database_that_is_away(postgres: Postgres) -> None:
    postgres.make("away")
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
    postgres.make("quiet")
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
