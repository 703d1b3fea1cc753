"""What the trials of a study amount to, whoever made them and in whatever order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState
from tests.unit.tuning.studies import opened, terms

from deeprelax.tuning.study import ledger as study_ledger
from deeprelax.tuning.study.leases import Leases
from deeprelax.tuning.study.ledger import (
    ATTEMPT,
    INFEASIBLE_LIMIT,
    LOST_LIMIT,
    OUTCOME,
    SLOT,
    Attempt,
    Ledger,
    kind,
)


def made(
    number: int, slot: int, attempt: int = 0, state: TrialState = TrialState.WAITING, why: str = ""
) -> FrozenTrial:
    attributes: dict[str, Any] = {SLOT: slot, ATTEMPT: attempt}
    if why:
        attributes[OUTCOME] = {"kind": why, "why": "test"}
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
    )


def ledger(*trials: FrozenTrial, slots: int = 1, retries: int = 1, replace: bool = True) -> Ledger:
    return Ledger(trials, slots=slots, retries=retries, replace=replace)


def test_an_empty_study_misses_the_first_attempt_of_every_slot() -> None:
    assert ledger(slots=2).missing() == [Attempt(0, 0), Attempt(1, 0)]


@given(st.permutations([made(3, 0), made(5, 0), made(1, 1), made(2, 1)]))
def test_of_equal_attempts_the_lowest_number_counts(trials: list[FrozenTrial]) -> None:
    books = ledger(*trials, slots=2)
    assert [trial.number for trial in books.waiting] == [3, 1]
    assert sorted(trial.number for trial in books.duplicates) == [2, 5]
    assert books.counts()["asked"] == 2
    assert books.missing() == []


def test_a_failed_trial_without_reason_was_lost() -> None:
    lost = made(0, 0, state=TrialState.FAIL)
    assert kind(lost) == "lost"
    assert ledger(lost, retries=0).missing() == [Attempt(0, 1, lost)]


@pytest.mark.parametrize(
    ("why", "most", "replace"),
    [
        ("failed", 3, True),
        ("diverged", 1, True),
        ("lost", LOST_LIMIT + 1, True),
        ("infeasible", INFEASIBLE_LIMIT + 1, True),
        ("infeasible", 1, False),
    ],
)
def test_a_slot_is_done_after_so_many_failures(why: str, most: int, replace: bool) -> None:
    chain = [made(number, 0, number, TrialState.FAIL, why) for number in range(most)]
    before = ledger(*chain[:-1], retries=2, replace=replace)
    assert len(before.missing()) == 1
    assert before.done == 0
    after = ledger(*chain, retries=2, replace=replace)
    assert after.missing() == []
    assert after.done == 1


def test_failures_of_different_kinds_are_counted_apart() -> None:
    chain = [made(n, 0, n, TrialState.FAIL, why) for n, why in enumerate(["preempted", "failed", "preempted", "lost"])]
    assert ledger(*chain).missing() == [Attempt(0, 4, chain[-1])]


def test_the_queue_is_short_and_refilled_by_who_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_ledger, "WINDOW", 4)
    queue = [made(slot, slot) for slot in range(4)]
    assert ledger(slots=9).missing() == [Attempt(slot, 0) for slot in range(4)]
    assert ledger(*queue, slots=9).missing() == []
    assert ledger(*queue, slots=9).counts() == ledger(slots=9).counts()
    assert [ledger(*queue, slots=6).following(trial) for trial in queue] == [Attempt(4, 0), Attempt(5, 0), None, None]
    queue[0].state = TrialState.RUNNING
    assert ledger(*queue, slots=9).missing() == [], "the driver that has claimed slot 0 is about to make slot 4"
    queue[2].state = TrialState.RUNNING
    assert ledger(*queue, slots=9).missing() == [Attempt(4, 0)], "it has not: it is dead"
    assert ledger(*queue, made(4, 4), slots=9).following(queue[0]) is None
    assert ledger(made(9, 0, 1), slots=9).following(made(9, 0, 1)) is None


def test_trials_of_other_tools_are_left_out() -> None:
    stray = made(0, 7, state=TrialState.COMPLETE)
    foreign = made(1, 0, state=TrialState.RUNNING)
    foreign.user_attrs.clear()
    assert ledger(stray, foreign).trials == []
    assert ledger(stray, foreign).missing() == [Attempt(0, 0)]


def test_an_attempt_that_two_drivers_have_made_runs_once(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=2)) as study:
        for _ in range(2):
            study._storage.create_new_trial(study._id, study._template(Attempt(0, 0)))
        numbers = []
        while trial := study.ask():
            numbers.append(trial.number)
            trial.complete([1.0])
        assert numbers == [0, 1]
        assert study.finished
        stored = study._storage.get_all_trials(study._id)
        assert [kind(trial) for trial in stored[2:]] == ["duplicate", "duplicate"]
        assert study.counts()["asked"] == 2


def test_who_was_out_of_touch_waits_before_it_calls_others_silent() -> None:
    now = [0.0]
    leases = Leases(lambda _: set(), grace_s=45, clock=lambda: now[0])

    def may_judge(at_s: float) -> bool:
        now[0] = at_s
        leases.renew()
        return leases.may_judge

    assert may_judge(0)
    assert may_judge(40)
    # The database was away for 50 s, or the machine asleep.
    assert [may_judge(at_s) for at_s in (90, 120, 134, 135, 170)] == [False, False, False, True, True]
