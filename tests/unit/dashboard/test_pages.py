"""What the pages say, and what they refuse."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.dashboard.pages import READER, WRITER, client, run, study
from tests.unit.tuning.studies import opened, prepared, terms

from deeprelax.config import RunConfig
from deeprelax.dashboard.live import changes
from deeprelax.dashboard.runs import Runs
from deeprelax.errors import ConfigError
from deeprelax.tuning.study.database import Database


def test_home_lists_sweeps_and_runs(tmp_path: Path) -> None:
    study(tmp_path)
    run(tmp_path / "runs" / "one")
    with client(tmp_path) as site:
        page = site.get("/", headers=READER).text
    assert "/sweeps/parabola" in page
    assert "2 / 3" in page
    assert "/runs/one" in page
    assert "unfinished" in page


def test_an_empty_home_says_how_to_begin(tmp_path: Path) -> None:
    with client(tmp_path) as site:
        page = site.get("/", headers=READER).text
    assert "deeprelax sweep digits" in page
    assert "deeprelax fit digits" in page


def test_a_sweep_shows_its_trials_and_draws_them(tmp_path: Path) -> None:
    study(tmp_path)
    with client(tmp_path) as site:
        page = site.get("/sweeps/parabola", headers=READER).text
        figures = site.get("/data/sweeps/parabola", headers=READER).json()
    assert page.count("complete</span>") == 2
    assert "10.0.0.1:6379" in page
    assert "Stop the sweep" not in page
    best = figures["history"]["data"][1]
    assert best["y"] == sorted(best["y"], reverse=True)
    assert figures["bytes"]["data"][0]["x"] == [1e6, 2e6]
    assert "parallel" in figures


def test_the_schedules_of_the_best_are_drawn_and_trials_lead_to_their_runs(tmp_path: Path) -> None:
    study(tmp_path)
    resolved = RunConfig(
        trainable="digits", steps=100, epochs=4.0, coupling={"lr": "cos(0.1,0)", "gamma": "exp(100,1)", "rho": "10"}
    )
    folder = tmp_path / "runs" / "sweeps" / "parabola" / "trials" / "00001" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(resolved.job()))
    with client(tmp_path) as site:
        figures = site.get("/data/sweeps/parabola", headers=READER).json()
        page = site.get("/sweeps/parabola", headers=READER).text
    (best,) = figures["schedule-gamma"]["data"]
    assert (best["x"][0], best["y"][0]) == (0.0, pytest.approx(100.0))
    assert best["y"][-1] == pytest.approx(1.0, rel=0.1)
    assert "schedule-rho" not in figures
    assert "/runs/sweeps/parabola/trials/00001/seed-0" in page


def test_a_run_is_drawn_against_what_was_asked_for(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "one")
    with client(tmp_path) as site:
        by_bytes = site.get("/data/runs/one?against=bytes", headers=READER).json()
        assert site.get("/data/runs/one?against=moons", headers=READER).status_code == 422
    assert by_bytes["error"]["data"][0]["x"] == [1e6, 2e6, 3e6]
    assert [trace["name"] for trace in by_bytes["distance"]["data"]] == ["replica 0", "replica 1"]
    assert by_bytes["ratios"]["data"][0]["y"] == [None] * 4  # a logarithmic axis has no zero
    assert by_bytes["members"]["data"][0]["y"] == ["replica 0", "replica 1"]


def test_runs_are_compared(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "one")
    run(tmp_path / "runs" / "two")
    with client(tmp_path) as site:
        found = site.get("/data/compare?run=one&run=two", headers=READER).json()
        page = site.get("/compare?run=one&run=two", headers=READER).text
    assert [trace["name"] for trace in found["error"]["data"]] == ["one", "two"]
    assert "2 runs" in page


@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "/etc", "none", "one/../../secret"])
def test_nothing_outside_of_the_runs_is_read(tmp_path: Path, path: str) -> None:
    run(tmp_path / "runs" / "one")
    run(tmp_path / "secret")
    with client(tmp_path) as site:
        assert site.get(f"/runs/{path}", headers=READER).status_code == 404
    with pytest.raises(ConfigError, match="Unknown run"):
        Runs(tmp_path / "runs").read("../secret")


def test_a_link_does_not_lead_outside(tmp_path: Path) -> None:
    run(tmp_path / "secret")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="Unknown run"):
        Runs(tmp_path / "runs").read("link")
    assert Runs(tmp_path / "runs").newest() == []


def test_what_a_run_calls_itself_is_text_not_markup(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "<script>alert(1)<")
    with client(tmp_path) as site:
        assert "<script>alert" not in site.get("/", headers=READER).text


def test_an_unknown_sweep_is_named(tmp_path: Path) -> None:
    study(tmp_path)
    with client(tmp_path) as site:
        answer = site.get("/sweeps/parabole", headers=READER)
    assert answer.status_code == 404
    assert "parabola" in answer.text


def test_stop_reaches_the_drivers(tmp_path: Path) -> None:
    with opened(tmp_path, terms()) as driver, client(tmp_path) as site:
        assert not driver.stop_requested
        assert site.post("/sweeps/parabola/stop", headers=WRITER).status_code == 200
        assert driver.stop_requested


def test_a_trial_marked_as_failed_is_lost_to_its_driver_and_tried_again(tmp_path: Path) -> None:
    with opened(tmp_path, terms(retries=1)) as driver, client(tmp_path) as site:
        trial = driver.ask()
        assert trial is not None
        answer = site.post(f"/sweeps/parabola/trials/{trial.number}/fail", headers=WRITER)
        assert answer.status_code == 200, answer.text
        assert site.post(f"/sweeps/parabola/trials/{trial.number}/fail", headers=WRITER).status_code == 404
        counts = driver.counts()
        assert (counts["failed"], counts["asked"]) == (1, 4)
        (failed,) = [found for found in driver.trials() if found.number == trial.number]
        assert failed.user_attrs["deeprelax:outcome"]["why"] == "marked as failed on the dashboard"


def test_the_database_shows_no_password(tmp_path: Path) -> None:
    study(tmp_path)
    with Database(prepared(tmp_path)) as found:
        assert [listed.done for listed in found.studies()] == [2]
        assert "***" not in str(found.address)


def test_an_event_tells_of_a_change_and_only_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeprelax.dashboard.live.LOOK_S", 0.0)
    looks = iter(["a", "a", "a", "b", "b", "c"])

    async def first(count: int) -> list[str]:
        events = changes(lambda: next(looks))
        return [await anext(events) for _ in range(count)]

    assert asyncio.run(first(3)) == [": watching\n\n", "event: changed\ndata: \n\n", "event: changed\ndata: \n\n"]
