"""Sweeps of three Ray instances on one study in PostgreSQL, while drivers, workers and the server die with SIGKILL.

``DEEPRELAX_CHAOS_ROUNDS=20`` plays twenty rounds; each has its own seed and a study of its own. Starting a Ray instance
takes longer than a round, so drivers live on: the one that replaces a dead one takes part in the next round as well.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from tests.faults import sweep_driver
from tests.faults.fleet import Driver, Fleet
from tests.faults.postgres import Postgres

from deeprelax.errors import StudyError
from deeprelax.execution.result import load_result
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.ledger import DRIVER, SLOT, kind
from deeprelax.tuning.study.storage import PatientStorage, open_storage

TRIALS = 18
ROUNDS = int(os.environ.get("DEEPRELAX_CHAOS_ROUNDS", "2"))
STARVED_S = 200.0
"""Enough for anything, also while other programs have the cores."""

pytestmark = pytest.mark.timeout(2 * STARVED_S)


@pytest.fixture(scope="module")
def fleet(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:  # noqa: ARG001 - first
    with Fleet(3, tmp_path_factory.mktemp("fleet"), TRIALS) as drivers:
        yield drivers


class Witness:
    """Reads all trials from the database again and again, and remembers those that have finished.

    Args:
        storage: of the database, without a cache.
        drivers: that must not end by themselves.
    """

    def __init__(self, storage: PatientStorage, drivers: list[Driver]) -> None:
        self._storage, self._drivers = storage, drivers
        self._finished: dict[int, tuple[object, ...]] = {}

    def look(self) -> list[FrozenTrial]:
        """Return the trials as they are now; none that had finished may have changed."""
        with self._storage.link.patience(sweep_driver.GRACE_S):
            study = self._storage.get_study_id_from_name(sweep_driver.NAME)
            trials = self._storage.get_all_trials(study)
        for trial in trials:
            if trial.state.is_finished():
                now = (trial.state, trial.values, trial.params, trial.user_attrs, trial.datetime_complete)
                assert self._finished.setdefault(trial.number, now) == now, "an outcome never changes"
        assert self._finished.keys() <= {trial.number for trial in trials}
        return trials

    def complete(self) -> int:
        return sum(trial.state is TrialState.COMPLETE for trial in self.look())

    def running(self, driver: Driver) -> list[int]:
        return [
            trial.number
            for trial in self.look()
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(DRIVER, {}).get("pid") == driver.process.pid
        ]

    def until(self, holds: Callable[[], object]) -> None:
        give_up = time.monotonic() + STARVED_S
        while not self._happens(holds):
            for driver in self._drivers:
                assert driver.process.poll() is None, driver.said
            assert time.monotonic() < give_up, [driver.said for driver in self._drivers]
            time.sleep(0.1)

    @staticmethod
    def _happens(holds: Callable[[], object]) -> bool:
        try:
            return bool(holds())
        except (KeyError, StudyError):  # no study yet, or no server
            return False


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_night_loses_nothing(postgres: Postgres, fleet: Fleet, seed: int) -> None:
    chance = random.Random(seed)
    url = postgres.make(f"night{seed}")
    for driver in fleet.drivers:
        driver.take(url)
    fleet.prepare()
    with closing(open_storage(Address(url), grace_s=sweep_driver.GRACE_S, patience_s=0)) as storage:
        witness = Witness(storage, fleet.drivers)
        dead, orphans = _play(chance, postgres, fleet, witness, url)
        _check_books(witness.look(), fleet.drivers, orphans)
        _check_told(witness.look(), [*fleet.drivers, dead])


def _play(
    chance: random.Random, postgres: Postgres, fleet: Fleet, witness: Witness, url: str
) -> tuple[Driver, list[int]]:
    """Kill a driver, another one's worker and the server; return the dead one and the trials that it had then."""
    victim, other, _ = chance.sample(fleet.drivers, 3)
    first, second = chance.randint(2, 4), chance.randint(6, 9)
    witness.until(lambda: witness.complete() >= first and witness.running(victim))
    chance.choice([victim.kill, victim.kill_all])()
    orphans = witness.running(victim)
    fleet.replace(victim).take(url)
    witness.until(lambda: witness.running(other) and other.kill_trial())
    witness.until(lambda: witness.complete() >= second)
    time.sleep(chance.random())
    postgres.kill()
    time.sleep(chance.choice([0.2, 1, sweep_driver.GRACE_S + 1]))  # the drivers train on meanwhile
    postgres.start()
    witness.until(lambda: all(driver.summary for driver in fleet.drivers))
    victim.kill_all()
    return victim, orphans


def _check_books(trials: list[FrozenTrial], drivers: list[Driver], orphans: list[int]) -> None:
    """Check the study against itself, and against what every driver has returned."""
    assert all(trial.state.is_finished() for trial in trials)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    evaluated = [*complete, *(trial for trial in trials if kind(trial) == "diverged")]
    assert sorted(trial.user_attrs[SLOT] for trial in evaluated) == list(range(TRIALS)), "each is counted once"
    least = min(trial.values[0] for trial in complete)
    for summary in map(_summary, drivers):
        counts: dict[str, int] = summary["counts"]
        assert counts["complete"] == len(complete)
        assert counts["asked"] == counts["complete"] + counts["failed"] + counts["lost"] + counts["preempted"]
        assert trials[summary["trial"]].values == [summary["objectives"]["center/error"]] == [least]
    for number in orphans:
        assert (trials[number].state, kind(trials[number])) == (TrialState.FAIL, "lost")


def _check_told(trials: list[FrozenTrial], drivers: list[Driver]) -> None:
    """Check the study against what each driver has said of its trials, and against their files."""
    told = [(driver, number, outcome) for driver in drivers for number, outcome in driver.ended]
    complete = [number for _, number, outcome in told if outcome == "complete"]
    assert len(complete) == len(set(complete)), "a trial has one owner"
    for driver, number, outcome in told:
        trial = trials[number]
        assert trial.user_attrs[DRIVER]["pid"] == driver.process.pid
        if outcome == "complete":
            assert trial.values == [_measured(driver.folder, number)]
        else:
            assert trial.state is TrialState.FAIL


def _measured(folder: Path, number: int) -> float:
    return load_result(folder / f"runs/sweeps/{sweep_driver.NAME}/trials/{number:05d}/seed-1").metrics["center/error"]


def _summary(driver: Driver) -> dict[str, Any]:
    assert driver.summary is not None
    return driver.summary
