"""Any order of claims, silences, deaths and late results leaves each trial one owner and one outcome."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.tuning.studies import age, opened, terms

from deeprelax.errors import LeaseError
from deeprelax.tuning.study import Study, Trial, ledger

TRIALS = 5
WINDOW = 2
GRACE_S = 45
DRIVERS = st.integers(0, 2)


class LeaseMachine(RuleBasedStateMachine):
    """Three drivers on one study; time passes by making the leases in the database older.

    Steps of 20 s against 45 s of grace: the real seconds that pass meanwhile change no decision.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dr"))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ledger, "WINDOW", WINDOW)
        self.drivers: list[Study] = []
        self.dead: list[Study] = []
        self.held: dict[int, tuple[int, Trial]] = {}  # trials whose outcome nobody has said, with their driver
        self.claimed: set[int] = set()
        self.silence_s: dict[int, float] = {}  # of each trial that runs
        self.outcomes: dict[int, tuple[object, ...]] = {}

    @initialize()
    def start(self) -> None:
        self.drivers = [opened(self.folder, terms(trials=TRIALS, retries=1), grace_s=GRACE_S) for _ in range(3)]

    @rule(driver=DRIVERS)
    def claim(self, driver: int) -> None:
        trial = self.drivers[driver].ask()
        if trial is None:
            return
        assert trial.number not in self.claimed, "a trial has one owner, ever"
        trial.suggest.suggest_float("x", 0, 1)
        self.claimed.add(trial.number)
        self.held[trial.number] = (driver, trial)
        self.silence_s[trial.number] = 0

    @rule(steps=st.integers(1, 3))
    def time_passes(self, steps: int) -> None:
        age(self.drivers[0], 20 * steps)
        for number in self.silence_s:
            self.silence_s[number] += 20 * steps

    @rule(driver=DRIVERS)
    def renew(self, driver: int) -> None:
        self.drivers[driver].leases.renew()
        self._renewed(driver)

    @rule(driver=DRIVERS)
    def reclaim(self, driver: int) -> None:
        self._renewed(driver)
        silent = {number for number, silence_s in self.silence_s.items() if silence_s > GRACE_S}
        assert self.drivers[driver].reclaim() == len(silent)
        for number in silent:
            del self.silence_s[number]

    @rule(driver=DRIVERS)
    def die(self, driver: int) -> None:
        """A driver is gone without a word; what it still had may arrive late."""
        study = self.drivers[driver]
        study.leases.stop()
        self.dead.append(study)
        self.held = {number: (-1 if owner == driver else owner, trial) for number, (owner, trial) in self.held.items()}
        self.drivers[driver] = opened(self.folder, grace_s=GRACE_S)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(["complete", "nan", "prune", "failed", "preempted", "infeasible"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        _, trial = self.held.pop(number)
        if self.silence_s.pop(number, None) is None:
            with pytest.raises(LeaseError):
                say(trial, outcome)
        else:
            say(trial, outcome)

    @invariant()
    def the_books_agree(self) -> None:
        if not self.drivers:
            return
        books = self.drivers[0]._ledger()
        counts = books.counts()
        assert sum(counts.values()) == 2 * counts["asked"]
        assert counts["running"] == len(self.silence_s)
        for trial in books.trials:
            if trial.state.is_finished():
                seen = (trial.state, trial.values, trial.params, trial.user_attrs, trial.datetime_complete)
                assert self.outcomes.setdefault(trial.number, seen) == seen, "an outcome never changes"

    def teardown(self) -> None:
        if self.drivers:
            self._finish()
        for study in (*self.drivers, *self.dead):
            study.close()
        shutil.rmtree(self.folder)
        self.patch.undo()

    def _finish(self) -> None:
        """However it went, the study can be finished, with exactly the trials asked for."""
        driver = self.drivers[0]
        age(driver, 100)
        driver.leases._held.clear()
        driver.reclaim()
        while trial := driver.ask():
            assert trial.number not in self.claimed
            trial.complete([1.0])
        assert driver.finished
        slots = [trial.user_attrs["deeprelax:slot"] for trial in driver.trials() if trial.state.name != "FAIL"]
        assert len(slots) == len(set(slots)), "no slot is counted twice"
        counts = driver.counts()
        assert counts["waiting"] == counts["running"] == 0

    def _renewed(self, driver: int) -> None:
        for number, (owner, _) in self.held.items():
            if owner == driver and number in self.silence_s:
                self.silence_s[number] = 0


def say(trial: Trial, outcome: str) -> None:
    match outcome:
        case "complete":
            trial.complete([float(trial.number)])
        case "nan":
            trial.complete([float("nan")])
        case "prune":
            trial.prune(0.5, 1.0, "asha")
        case "failed" | "preempted" | "infeasible":
            trial.fail("said so", outcome)


def check_leases(*, examples: int, steps: int) -> None:
    """Try ``examples`` orders of up to ``steps`` events."""
    machine = LeaseMachine.TestCase
    machine.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    machine("runTest").runTest()
