"""Drivers and the database of one study die with SIGKILL at random points, and the books stay right.

``DEEPRELAX_CHAOS_ROUNDS=20`` plays twenty rounds; each has its own seed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.faults import study_driver
from tests.faults.postgres import Postgres

from deeprelax.tuning.study import Study
from deeprelax.tuning.study.ledger import DRIVER, SLOT

TRIALS = 24
ROUNDS = int(os.environ.get("DEEPRELAX_CHAOS_ROUNDS", "2"))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_no_trial_is_lost_or_counted_twice(postgres: Postgres, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    url = postgres.make(f"round{seed}")  # empty: the three drivers make the tables at the same moment
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    drivers = [_start(url, log) for log in logs]
    victim, first, second = chance.randrange(3), chance.randint(3, 8), chance.randint(8, 16)
    survivors = [driver for number, driver in enumerate(drivers) if number != victim]
    try:
        _until(lambda: all(_events(log, "complete") for log in logs), drivers)
        _until(lambda: _done(logs) >= first and _trains(logs[victim]), drivers)
        drivers[victim].kill()
        _until(lambda: _done(logs) >= second, survivors)
        time.sleep(chance.random() * study_driver.TRAINING_S)
        postgres.kill()
        time.sleep(chance.choice([0.2, 1, study_driver.GRACE_S + 1]))  # the drivers train on meanwhile
        postgres.start()
        for driver in survivors:
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
        trials = {trial.number: trial for trial in study.trials()}
    assert counts["complete"] == TRIALS
    assert counts["running"] == counts["waiting"] == 0
    assert counts["asked"] == TRIALS + counts["lost"] + counts["preempted"]
    assert counts["lost"] >= 1, "the victim had a trial"
    done = [trial for trial in trials.values() if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs[SLOT] for trial in done) == list(range(TRIALS))
    assert all(trial.values == [study_driver.loss(trial.params["x"])] for trial in done)
    assert len({trial.user_attrs[DRIVER]["pid"] for trial in done}) == 3
    claimed = [number for log in logs for number, _ in _events(log, "claimed")]
    assert len(claimed) == len(set(claimed)), "a trial has one owner, ever"
    for log in logs:
        for number, value in _events(log, "complete"):
            assert trials[number].values == [value], "what a driver was told is stored"
        for number, _ in _events(log, "refused"):
            assert trials[number].state == TrialState.FAIL


def _start(url: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", study_driver.__file__, "shared", str(log), str(TRIALS)]
    with log.with_suffix(".err").open("w") as errors:
        return subprocess.Popen(command, env=os.environ | {"DEEPRELAX_STUDY": url}, stderr=errors)


def _events(log: Path, kind: str) -> list[tuple[int, float]]:
    if not log.exists():
        return []
    rows = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [(number, value) for event, number, value in rows if event == kind]


def _done(logs: list[Path]) -> int:
    return sum(len(_events(log, "complete")) for log in logs)


def _trains(log: Path) -> bool:
    return len(_events(log, "claimed")) > len(_events(log, "complete"))


def _said(logs: list[Path]) -> str:
    return "\n".join(log.with_suffix(".err").read_text() for log in logs)


def _until(holds: Callable[[], bool], drivers: list[subprocess.Popen[bytes]], timeout_s: float = 60) -> None:
    give_up = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up
        for driver in drivers:
            assert driver.poll() is None, "a driver has ended too early"
        time.sleep(0.02)
