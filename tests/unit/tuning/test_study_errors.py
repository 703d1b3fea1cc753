"""Whatever is wrong with a study or its database is one clear error, and never shows the password."""

from __future__ import annotations

import math
import pickle
import socket
import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from sqlalchemy import event
from tests.unit.tuning.studies import opened, prepared, terms, url

from deeprelax.errors import ConfigError, DeepRelaxError, StudyError
from deeprelax.tuning.study import Study, Terms, list_studies
from deeprelax.tuning.study.address import ENVIRONMENT, Address

SECRET = "hunter2"


def told(act: Callable[[], object], kind: type[DeepRelaxError] = StudyError) -> str:
    """Return the error's message, after looking for the password in its whole traceback."""
    with pytest.raises(kind) as caught:
        act()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET.encode() not in pickle.dumps(caught.value)
    return str(caught.value)


def test_an_unknown_study_names_the_nearest(tmp_path: Path) -> None:
    opened(tmp_path, terms(), "digits-parle").close()
    message = told(lambda: opened(tmp_path, name="digits-parel"))
    assert message == (
        f"Unknown study 'digits-parel' in {url(tmp_path)}. Did you mean 'digits-parle'? It has: digits-parle."
    )


def test_a_file_that_does_not_exist_is_not_made_by_looking_for_a_study(tmp_path: Path) -> None:
    message = told(lambda: Study.open("night", url=url(tmp_path)))
    assert message == f"Unknown study 'night': no file {tmp_path}/studies.db. Give its database with --study."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"directions": ("maximize",)}, 'directions: the study has ["minimize"], you gave ["maximize"]'),
        ({"metrics": ("loss",)}, 'metrics: the study has ["center/error"], you gave ["loss"]'),
        ({"space": {"name": "easgd"}}, 'space.name: the study has "parabola", you gave "easgd"'),
        ({"trials": 9}, "trials: the study has 3, you gave 9"),
        ({"settings": {"trainable": "digits"}}, 'settings.trainable: the study has nothing, you gave "digits"'),
    ],
)
def test_a_study_with_other_terms_is_not_joined(tmp_path: Path, change: dict[str, object], line: str) -> None:
    opened(tmp_path, terms()).close()
    message = told(lambda: opened(tmp_path, terms(**change)))
    assert message.startswith(f"Study 'parabola' in {url(tmp_path)} exists and differs from yours:\n  {line}\n")
    assert "--resume parabola" in message


def test_a_study_of_another_tool_is_left_alone(tmp_path: Path) -> None:
    study = optuna.create_study(storage=prepared(tmp_path), study_name="theirs")
    study.set_user_attr("owner", "them")
    for agreed in (terms(), None):
        message = told(lambda agreed=agreed: opened(tmp_path, agreed, "theirs"))  # type: ignore[misc]
        assert message.endswith("was not made by deeprelax. Give another name.")
    assert study.user_attrs == {"owner": "them"}
    assert study.trials == []
    assert list_studies(url(tmp_path)) == []


def test_a_study_whose_creator_died_before_its_terms_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeprelax.tuning.study.joining._CREATOR_S", 0.2)
    optuna.create_study(storage=prepared(tmp_path), study_name="parabola")
    with opened(tmp_path, terms(trials=2)) as study:
        assert study.counts()["waiting"] == 2
    optuna.create_study(storage=url(tmp_path), study_name="other", direction="maximize")
    assert "not made by deeprelax" in told(lambda: opened(tmp_path, terms(), "other"))


def test_a_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeprelax.tuning.study.storage.OPENING_S", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = told(lambda: Study.open("any", terms(), url=f"postgresql://me:{SECRET}@127.0.0.1:{port}/sweeps"))
    assert message == (
        f"Cannot use the study database postgresql+psycopg://me:***@127.0.0.1:{port}/sweeps: nothing answers there. "
        "Start the database, or correct host and port."
    )


def test_psycopg_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    message = told(lambda: Study.open("any", terms(), url=f"postgresql://me:{SECRET}@127.0.0.1/sweeps"))
    assert message.startswith("PostgreSQL needs psycopg 3, which is not installed. Install it: pip install")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (f"postgresql://me:{SECRET}@host:{SECRET}/db", "Invalid study URL. Must be sqlite:///path/file.db or"),
        (f"{SECRET}", "Invalid study URL. Must be"),
        (f"mysql://me:{SECRET}@host/db", "Invalid study URL of kind 'mysql'. Must start with postgresql:// or sqlite"),
        ("sqlite://", "Must name a file"),
    ],
)
def test_a_malformed_url(given: str, says: str) -> None:
    assert says in told(lambda: Study.open("any", terms(), url=given))


def test_the_address_hides_its_password() -> None:
    address = Address(f"postgresql://me:{SECRET}@host/db?password={SECRET}")
    assert str(address) == "postgresql+psycopg://me:***@host/db"
    assert SECRET not in repr(address)
    assert address.scrub(f"FATAL: {SECRET} is wrong") == "FATAL: *** is wrong"
    assert SECRET in address.secret()
    told(lambda: pickle.dumps(address))


def test_the_url_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, prepared(tmp_path))
    Study.open("here", terms()).close()
    assert [study.name for study in list_studies()] == ["here"]
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    assert str(Address()) == f"sqlite:///{tmp_path}/runs/studies.db"


def test_nothing_that_knows_the_database_is_pickled(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as study:
        trial = study.ask()
        assert trial is not None
        for secretive in (study, trial, trial.suggest, study._storage):
            assert "never pickled" in told(lambda it=secretive: pickle.dumps(it))  # type: ignore[misc]


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = told(lambda: Study.open("any", terms(), url=f"sqlite:///{tmp_path}/file/studies.db"))
    assert message.endswith("Give a file in another folder.")
    (tmp_path / "folder").mkdir()
    message = told(lambda: Study.open("any", terms(), url=f"sqlite:///{tmp_path}/folder"))
    assert message.endswith("the file cannot be written. Give another file, or change its permissions.")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "studies.db").write_text("a letter to a friend, long enough to have a header" * 10)
    message = told(lambda: Study.open("any", terms(), url=url(tmp_path)))
    assert message.endswith("the file is no SQLite database, or damaged. Give another file.")


def test_a_full_disk_is_waited_for_and_then_named_and_nothing_is_lost(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=2), patience_s=0.2) as study:
        trial = study.ask()
        assert trial is not None
        pages = [1]  # SQLite takes no fewer than there are
        event.listen(
            study._storage.engine,
            "checkout",
            lambda connection, *_: connection.execute(f"PRAGMA max_page_count={pages[0]}"),
        )
        full = "x" * 100_000
        trial.note(text=full)  # does not wait: it is delivered later
        message = told(lambda: trial.complete([1.0]))
        assert message.endswith("the disk is full. Make room; every result stored so far is safe.")
        pages[0] = 1_000_000
        trial.complete([1.0])
        (found, _) = study.trials()
        assert found.values == [1.0]
        assert found.user_attrs["text"] == full


def test_tables_of_another_version_of_optuna(tmp_path: Path) -> None:
    prepared(tmp_path)
    with closing(sqlite3.connect(tmp_path / "studies.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
        connection.commit()
    assert "no longer compatible" in told(lambda: opened(tmp_path, terms()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metrics": ()}, "Invalid metrics=(). Must be at least one name, each once."),
        ({"directions": ("down",)}, "Invalid directions=('down',). Must be 'minimize' or 'maximize'"),
        ({"directions": ("minimize",) * 2}, "for each of 1 metrics."),
        ({"trials": 0}, "Invalid trials=0. Must be an integer >= 1."),
        ({"retries": -1}, "Invalid retries=-1. Must be an integer >= 0."),
        ({"sampler": "tpee"}, "Unknown sampler 'tpee'. Did you mean 'tpe'?"),
        ({"settings": {"x": math.nan}}, "Must be plain JSON."),
        ({"space": {"x": object()}}, "Must be plain JSON."),
        (
            {"sampler": "cmaes", "metrics": ("a", "b"), "directions": ("minimize",) * 2},
            "Invalid sampler='cmaes' for several metrics.",
        ),
    ],
)
def test_terms_that_cannot_be(change: dict[str, object], says: str) -> None:
    assert says in told(lambda: terms(**change), ConfigError)


@pytest.mark.parametrize(
    ("name", "agreed", "first", "says"),
    [
        ("", terms(), [], "Invalid study name ''"),
        ("any", terms(trials=1), [{"x": 1}, {"x": 2}], "Invalid trials=1. Must be >= the 2 points to try first."),
        ("any", terms(sampler="grid"), [], "Invalid sampler='grid' with 0 points for trials=3."),
        ("any", terms(), [{"x": math.nan}], "Must be plain JSON"),
    ],
)
def test_a_study_that_cannot_be_made(
    tmp_path: Path, name: str, agreed: Terms, first: list[dict[str, object]], says: str
) -> None:
    assert says in told(lambda: opened(tmp_path, agreed, name, first=first), ConfigError)
