"""Several trials in one transaction: each keeps its own owner, outcome and failure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.unit.tuning.studies import age, opened, terms

from deeprelax.errors import LeaseError, StudyError
from deeprelax.tuning.study import Study, Trial, ledger, together


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with opened(tmp_path, terms(trials=6)) as found:
        yield found


class Transactions:
    """Counts the transactions of a study's database."""

    def __init__(self, study: Study) -> None:
        self.count = 0
        event.listen(study._storage.engine, "commit", self._counted)

    def _counted(self, _: object) -> None:
        self.count += 1


def numbers(trials: list[Trial]) -> list[int]:
    return [trial.number for trial in trials]


def lose(trial: Trial, other: Study) -> None:
    other._give_back(trial.suggest._trial_id)


def test_several_are_claimed_at_once_but_never_more_than_their_share(study: Study) -> None:
    assert numbers(study.ask_some(2)) == [0, 1]
    assert numbers(study.ask_some(9, share=2)) == [2, 3], "4 waited"
    assert numbers(study.ask_some(9, share=3)) == [4], "at least one"
    assert numbers(study.ask_some(9)) == [5]
    assert study.ask_some(9) == []
    assert len(study.leases.held) == 6


def test_what_waits_outside_of_the_queue_is_shared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "WINDOW", 4)
    with opened(tmp_path, terms(trials=12)) as study:
        assert len(study.ask_some(9, share=3)) == 4
        assert len(study.ask_some(9)) == 4, "what is in the queue"
        assert study.counts()["running"] == 8


def test_a_trial_that_runs_again_comes_alone(study: Study) -> None:
    first, *_ = study.ask_some(2)
    first.fail("its process died", "preempted")
    assert numbers(study.ask_some(3)) == [6]
    assert numbers(study.ask_some(3)) == [2, 3, 4]


def test_a_claim_is_made_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "WINDOW", 4)
    with opened(tmp_path, terms(trials=8)) as dying, opened(tmp_path) as other:
        with monkeypatch.context() as patch:
            patch.setattr(Study, "_make", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                dying.ask_some(3)
        assert other.counts()["running"] == 0
        assert dying.leases.held == []
        assert numbers(other.ask_some(3)) == [0, 1, 2]


def test_a_claim_is_repeated_whole_after_the_database_was_away(study: Study) -> None:
    fresh = study._settled()
    failures = [OperationalError("", {}, Exception("the server closed the connection"))]

    def fail(_: object) -> None:
        if failures:
            raise failures.pop()

    event.listen(study._storage.engine, "commit", fail)
    assert [trial.number for trial in study._claim(fresh, 3, 1)] == [0, 1, 2]
    assert failures == []


def test_what_is_said_together_is_one_transaction(study: Study) -> None:
    trials = study.ask_some(3)
    transactions = Transactions(study)
    with together(trials):
        for trial in trials:
            x = trial.suggest.suggest_float("x", -1, 1)
            assert trial.suggest.params == {"x": x}
            trial.note(run={"lr": x}, cost=3)
            trial.complete([x])
        assert transactions.count == 0
    assert transactions.count == 1
    done = [trial for trial in study.trials() if trial.state == TrialState.COMPLETE]
    assert len(done) == 3
    assert all(trial.values == [trial.params["x"]] and trial.user_attrs["cost"] == 3 for trial in done)
    assert study.leases.held == []


def test_each_ends_in_its_own_way(study: Study) -> None:
    good, bad, stopped, wrong = trials = study.ask_some(4)
    with together(trials):
        good.complete([1.0])
        bad.complete([math.nan])
        stopped.report(0.25, 3)
        stopped.prune(0.25, 3.0, "asha")
        wrong.fail("ValueError: no")
    found = {trial.number: trial for trial in study.trials()}
    assert [found[trial.number].state.name for trial in trials] == ["COMPLETE", "FAIL", "PRUNED", "FAIL"]
    assert found[stopped.number].values == [0.25]
    assert study.counts()["failed"] == 2
    assert [trial.is_lost for trial in trials] == [False] * 4
    with pytest.raises(StudyError, match="has its outcome already"):
        good.complete([2.0])


def test_one_that_was_given_back_does_not_touch_the_others(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=3)) as silent, opened(tmp_path) as other:
        trials = silent.ask_some(3)
        lose(trials[1], other)
        with together(trials):
            for trial in trials:
                trial.note(cost=1)
                trial.complete([0.5])
        assert [trial.is_lost for trial in trials] == [False, True, False]
        counts = other.counts()
        assert (counts["complete"], counts["preempted"], counts["waiting"]) == (2, 1, 1)
        assert "cost" not in other.trials()[1].user_attrs


def test_all_of_a_silent_driver_are_given_back(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=3)) as silent, opened(tmp_path) as other:
        trials = silent.ask_some(3)
        age(other, 60)
        assert other.reclaim() == 3
        with together(trials):
            for trial in trials:
                trial.complete([0.5])
        assert all(trial.is_lost for trial in trials)
        with pytest.raises(LeaseError):
            trials[0].note(cost=1)
        assert other.counts()["lost"] == 3


def test_an_outcome_that_the_leases_notice_first_is_not_lost(study: Study) -> None:
    (trial,) = study.ask_some(1)
    # As the thread does that renews them, when it looks between the commit and our hearing of it.
    event.listen(study._storage.engine, "commit", lambda _: study.leases._lost.add(trial.suggest._trial_id))
    trial.complete([1.0])
    assert not trial.is_lost
    assert study.counts()["complete"] == 1


def test_parameters_are_stored_at_once_again_afterwards(study: Study) -> None:
    (trial,) = study.ask_some(1)
    with together([trial]):
        trial.suggest.suggest_float("x", -1, 1)
        assert study.trials()[0].params == {}
    trial.suggest.suggest_float("y", -1, 1)
    assert study.trials()[0].params == trial.suggest.params
