"""Sweeps on one real cluster: who comes later gets its share from a sweep that had all slots, and gives it back."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.tuning.sweeps import study_url

import deeprelax
from deeprelax.errors import StudyError
from deeprelax.tuning.study import Study
from deeprelax.tuning.sweep.admission import shape_of
from deeprelax.tuning.sweep.sharing import Claim

LONG = ["potential", "--space", "local_sgd", "--trials", "300", "--epochs", "20", "-o", "noise=1", "--name", "long"]
STARVED_S = 120.0


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_sweep_that_had_all_slots_makes_room_for_another_and_takes_it_back(tmp_path: Path) -> None:
    import ray

    url = study_url(tmp_path, "long")
    words = ["--cpus-per-trial", "2", "--study", url, "--address", ray.get_runtime_context().gcs_address]
    long = subprocess.Popen([sys.executable, "-m", "deeprelax", "sweep", *LONG, *words], stderr=subprocess.DEVNULL)
    try:
        _until(lambda: _counts(url)["running"] == 2)
        short = deeprelax.sweep(
            "potential", space="local_sgd", trials=3, config={"noise": 1.0}, run={"epochs": 5}, cpus_per_trial=2.0,
            study=study_url(tmp_path, "short"), show_progress=False,
        )  # fmt: skip
        assert short.counts["complete"] + short.counts["failed"] == short.counts["asked"] == 3
        assert _counts(url)["waiting"] > 0, "it did not wait for the end of the other one"
        _until(lambda: _counts(url)["running"] == 2)
    finally:
        long.kill()
        long.wait()


@pytest.mark.usefixtures("ray_cluster")
def test_a_neighbor_that_ends_or_falls_silent_gives_its_share_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from deeprelax.tuning.sweep import neighbors
    from deeprelax.tuning.sweep.neighbors import Neighbors

    monkeypatch.setattr(neighbors, "BEAT_S", 0.05)
    monkeypatch.setattr(neighbors, "SILENT_S", 1.0)
    one, two, dead = (Neighbors(lambda name: Claim(driver=name, shape=shape_of(1, 0))) for _ in range(3))
    with one:
        _until(lambda: one.may_run(4) == 4)  # the killed sweep of another test may be alive yet, as far as is known
        with two:
            _until(lambda: one.may_run(4) == two.may_run(4) == 2)
        _until(lambda: one.may_run(4) == 4)
        dead._beat()
        _until(lambda: one.may_run(4) == 2)
        _until(lambda: one.may_run(4) == 4)


def _counts(url: str) -> dict[str, int]:
    try:
        with Study.open("long", url=url) as study:
            return study.counts()
    except StudyError:
        return {"running": 0}


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + STARVED_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
