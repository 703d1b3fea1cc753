"""Sweeps on a real cluster: what they print can be repeated, what interrupts them loses nothing, nothing leaks."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.integration.mortal import MORTAL, flagged
from tests.unit.toytasks import toy
from tests.unit.tuning.sweeps import SECRET, Heard, agreed, study_url, sweeping, toy_space

import deeprelax
from deeprelax.cli import main
from deeprelax.errors import StudyError
from deeprelax.reference import refer
from deeprelax.registry import find
from deeprelax.tuning.space import Choice, Constant, Int, SearchSpace
from deeprelax.tuning.study import Study
from deeprelax.tuning.sweep.feasible import Feasible

PARLE = "deeprelax_search_spaces.parle:parle"
SMALL = {"model": "mlp", "hidden": 32}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small_sweep(folder: Path, **fields: Any) -> deeprelax.SweepResult:
    settings: dict[str, Any] = {"trials": 4, "run": {"epochs": 2, "seed": 3}, "scheduler": "asha"} | fields
    return deeprelax.sweep(
        "digits", space=PARLE, config=SMALL, study=f"sqlite:///{folder}/studies.db", show_progress=False, **settings
    )


def fitted(command: str, folder: Path) -> deeprelax.RunResult:
    ran = CliRunner().invoke(main, [*shlex.split(command)[1:], "--run-dir", str(folder)])
    assert ran.exit_code == 0, ran.output
    return deeprelax.load_result(folder)


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_sweep_prints_can_be_repeated_and_the_same_call_joins_it(tmp_path: Path) -> None:
    result = small_sweep(tmp_path, seeds=2)

    assert result.counts["complete"] + result.counts["pruned"] == 4
    assert result.final is not None
    again = fitted(result.command, tmp_path / "again")
    assert again.metrics == result.final.metrics
    assert again.config.holdout == 0
    chosen = fitted(result.chosen_by, tmp_path / "chosen").metrics["center/error"]
    other = fitted(f"{result.chosen_by} --seed 4".replace("--seed 3 ", ""), tmp_path / "other").metrics["center/error"]
    assert (chosen + other) / 2 == pytest.approx(result.objectives["center/error"], rel=1e-12)
    assert result.folder / "pictures" / "history.svg" in result.pictures
    for name in ("sweep.json", "trials.jsonl", "best.yaml", "best/center.safetensors", "pictures/history.svg"):
        assert (result.folder / name).is_file(), name
    assert len(list((result.folder / "trials").glob("*/seed-*/config.json"))) == 8

    joined = small_sweep(tmp_path, seeds=2)
    assert joined.summary() == result.summary()


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_several_objectives_end_with_what_is_best_in_some(tmp_path: Path) -> None:
    result = small_sweep(
        tmp_path, scheduler="none", trials=3, minimize=("bytes_exchanged", "center/loss"), sampler="nsga2"
    )
    assert result.trial in result.front
    assert result.objectives.keys() == {"bytes_exchanged", "center/loss"}


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_grid_is_trained_whole_under_a_scheduler_that_pauses_by_default(tmp_path: Path) -> None:
    space = SearchSpace(
        name="grid",
        dimensions=(
            Constant(field="method", value="local_sgd"),
            Choice(field="period", choices=(2, 4)),
            Int(field="replicas", low=1, high=3),
        ),
        summary="For tests.",
        source="none",
    )
    result = deeprelax.sweep(
        "digits", space=space, sampler="grid", scheduler="median", config=SMALL, run={"epochs": 2},
        study=study_url(tmp_path), show_progress=False,
    )  # fmt: skip
    assert result.counts["complete"] + result.counts["pruned"] == result.counts["asked"] == 6
    assert result.failures == {}


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_costs_one_attempt(tmp_path: Path) -> None:
    flag = flagged(tmp_path)
    result = deeprelax.sweep(
        MORTAL,
        space=toy_space(),
        config={"flag": str(flag)},
        trials=3,
        run={"epochs": 1},
        study=study_url(tmp_path),
        show_progress=False,
    )
    assert not flag.exists()
    assert (result.counts["complete"], result.counts["failed"]) == (3, 1)
    (why,) = result.failures
    assert "worker process died" in why


@pytest.mark.usefixtures("ray_cluster")
def test_packs_lose_nothing_with_their_process_and_have_the_numbers_of_a_fit(tmp_path: Path) -> None:
    flag = flagged(tmp_path)
    result = deeprelax.sweep(
        MORTAL,
        space=toy_space(),
        config={"flag": str(flag)},
        trials=16,
        pack=3,
        run={"epochs": 1},
        study=study_url(tmp_path),
        show_progress=False,
    )
    assert not flag.exists()
    assert (result.counts["complete"], result.counts["failed"], result.counts["running"]) == (16, 0, 0)
    assert result.counts["preempted"] >= 2, "the pack of the process that was killed"
    rows = [json.loads(line) for line in (result.folder / "trials.jsonl").read_text().splitlines()]
    done = [row["number"] for row in rows if row["state"] == "complete"]
    assert all((result.folder / f"trials/{number:05d}/seed-0/result.json").is_file() for number in done)
    chosen = fitted(result.chosen_by, tmp_path / "chosen")
    assert chosen.metrics["center/error"] == result.objectives["center/error"]


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_no_file_of_tune_holds_the_address_of_the_study(tmp_path: Path) -> None:
    from deeprelax.tuning.sweep.driver import Drive, drive

    reference = refer(toy)
    fields = {"path": reference.path, "source_hash": reference.source_hash, "source": reference.source}
    config = agreed(run={"epochs": 1.0})
    (tmp_path / "db").mkdir()
    with sweeping(tmp_path / "db", file=SECRET, run={"epochs": 1.0}) as toys:
        drive(
            Drive(
                config=config,
                space=toy_space(),
                feasible=Feasible(config, find(config.trainable)),
                study=toys.study,
                given={"reference": fields, "folder": str(tmp_path / "trials")},
                spent=0.0,
                audience=Heard(),
                scratch=tmp_path / "tune",
            )
        )
        assert toys.study.counts()["complete"] == 3
    files = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "db" not in path.parents]
    assert any("experiment_state" in path.name for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_ctrl_c_gives_the_trials_back_and_the_study_alone_goes_on(tmp_path: Path) -> None:
    url = study_url(tmp_path)
    words = [
        "digits", "--space", PARLE, "--trials", "3", "--name", "stopped", "-o", "model=mlp", "-o", "hidden=8",
        "--epochs", "4", "--study", url,
    ]  # fmt: skip
    running = subprocess.Popen([sys.executable, "-m", "deeprelax", "sweep", *words], stderr=subprocess.PIPE, text=True)
    wait_for_running(url)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)

    assert running.returncode == 130
    assert "Stopped. Continue with: deeprelax sweep --resume stopped --study URL" in said
    with Study.open("stopped", url=url) as study:
        counts = study.counts()
        assert counts["running"] == 0
        assert counts["preempted"] >= 1

    ended = subprocess.run(
        [sys.executable, "-m", "deeprelax", "sweep", "--resume", "stopped", "--study", url],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "3 complete" in ended.stdout
    assert "deeprelax fit digits --coupling parle" in ended.stdout


def wait_for_running(url: str) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            with Study.open("stopped", url=url) as study:
                if study.counts()["running"]:
                    return
        except StudyError:
            pass
        time.sleep(0.5)
    raise AssertionError("no trial has begun")
