"""Between the study and Tune: every way a trial can end is stored as what it was, and nothing secret is pickled."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from tests.unit.tuning.sweeps import SECRET, Sweeping, stiff_space, sweeping

from deeprelax.errors import ConfigError, StudyError
from deeprelax.tuning.sweep import searcher as module
from deeprelax.tuning.sweep.result import outcome_of
from deeprelax.tuning.sweep.searcher import Deadline


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Sweeping]:
    with sweeping(tmp_path, file=SECRET) as found:
        yield found


def result(error: float = 0.25, *, finished: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "center/error": error, "center/loss": 2 * error, "passes": 10.0 if finished else 2.0, "finished": finished,
        "gradients": 100.0, "seconds": 1.5, "bytes_exchanged": 10.0, "standard_errors": '{"center/error": 0.01}',
        "done": True,
    } | more  # fmt: skip


def test_the_published_point_comes_first_as_a_resolved_run(toys: Sweeping) -> None:
    (run,) = toys.runs("a")
    assert run["method"] == "local_sgd"
    assert (run["coupling"]["lr"], run["coupling"]["period"]) == ("0.1", "4")
    assert run["holdout"] == 0.2
    assert run["steps"] == 10 * 10, "96 samples, 19 held out, batches of 8"
    assert run["threads"] == 1


def test_every_seed_is_a_run(tmp_path: Path) -> None:
    with sweeping(tmp_path, seeds=3, run={"seed": 5}) as toys:
        assert [run["seed"] for run in toys.runs("a")] == [5, 6, 7]


def test_what_the_user_has_fixed_wins(tmp_path: Path) -> None:
    with sweeping(tmp_path, coupling={"replicas": 3, "period": 9}, run={"epochs": 2}) as toys:
        (run,) = toys.runs("a")
        assert (run["coupling"]["replicas"], run["coupling"]["period"], run["steps"]) == (3, "9", 20)


def test_a_finished_trial_is_complete_with_its_cost(toys: Sweeping) -> None:
    toys.ask("a")
    toys.searcher.on_trial_result("a", result(0.5, finished=False))
    toys.searcher.on_trial_complete("a", result(0.25))
    (trial,) = [trial for trial in toys.study.trials() if trial.state is TrialState.COMPLETE]
    assert trial.values == [0.25]
    assert trial.intermediate_values == {1: 0.5}
    assert trial.user_attrs["cost"]["gradients"] == 100.0
    assert trial.user_attrs["cluster"] == {"nodes": 1}
    assert trial.user_attrs["cost"]["standard_errors"] == {"center/error": 0.01}
    assert toys.heard.ended_ == [(trial.number, "complete", "")]


def test_a_trial_that_was_stopped_early_is_pruned_with_its_fidelity_and_reason(tmp_path: Path) -> None:
    with sweeping(tmp_path, scheduler="asha") as toys:
        toys.ask("a")
        toys.searcher.on_trial_result("a", result(0.7, finished=False))
        toys.searcher.on_trial_complete("a", result(0.5, finished=False))
        (trial,) = [trial for trial in toys.study.trials() if trial.state is TrialState.PRUNED]
        outcome = outcome_of(trial)
        assert (outcome["value"], outcome["fidelity"]) == (0.5, 2.0)
        assert trial.intermediate_values == {1: 0.7, 2: 0.5}
        assert str(outcome["why"]).startswith("asha: center/error 0.5 after 2.0 passes; ")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_has_failed(toys: Sweeping, value: float) -> None:
    toys.ask("a")
    toys.searcher.on_trial_complete("a", result(value))
    assert toys.study.counts()["failed"] == 1
    assert toys.study.counts()["complete"] == toys.study.counts()["running"] == 0


def test_what_the_runs_raise_is_why_they_failed_and_divergence_is_not_retried(toys: Sweeping) -> None:
    toys.ask("a")
    toys.searcher.on_trial_complete("a", {"failed": "The loss is nan.", "diverged": True, "done": True})
    toys.ask("b")
    toys.searcher.on_trial_complete("b", {"failed": "ValueError: no", "diverged": False, "done": True})
    assert [why for _, _, why in toys.heard.ended_] == ["The loss is nan.", "ValueError: no"]
    assert toys.study.counts()["failed"] == 2
    toys.ask("c")
    counts = toys.study.counts()
    assert (counts["running"], counts["waiting"]) == (1, 1), "the second one is tried again, the first one is not"


def test_a_lost_worker_is_a_failure_that_is_retried(toys: Sweeping) -> None:
    first = toys.runs("a")
    toys.searcher.on_trial_complete("a", error=True)
    assert "worker process died" in toys.heard.ended_[0][2]
    again = [toys.runs(name)[0] for name in ("b", "c")]
    toys.searcher.on_trial_complete("b", result())
    again += toys.runs("d")
    assert first[0] in again, "the same run once more"


def test_a_fault_that_all_trials_share_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FAILED_IN_A_ROW", 3)
    with sweeping(tmp_path, trials=9) as toys:
        for name in "abcde":
            toys.ask(name)
            ends_well = name == "b"
            toys.searcher.on_trial_complete(name, result() if ends_well else {"failed": "DataError: no", "done": True})
        assert str(toys.searcher.error) == "3 trials in a row have failed. The last one: DataError: no"
        assert toys.searcher.suggest("f") == Searcher.FINISHED


def test_infeasible_suggestions_are_never_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INFEASIBLE_AT_ONCE", 3)
    with sweeping(tmp_path, stiff_space()) as toys:
        assert toys.searcher.suggest("a") is None
        assert toys.heard.begun_ == []
        assert toys.study.counts()["infeasible"] == 3
        assert {outcome for _, outcome, _ in toys.heard.ended_} == {"infeasible"}
        assert "gamma" in toys.heard.ended_[0][2]


def test_a_space_that_contradicts_what_is_fixed_ends_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INFEASIBLE_IN_ALL", 5)
    with sweeping(tmp_path, stiff_space()) as toys:
        assert toys.searcher.suggest("a") == Searcher.FINISHED
        assert isinstance(toys.searcher.error, ConfigError)
        assert "5 suggestions in a row were infeasible" in str(toys.searcher.error)
        assert Deadline(toys.searcher, None).stop_all()


def test_it_waits_while_all_slots_are_taken_and_while_the_last_trials_run(
    toys: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    toys.ask("a")
    toys.ask("b")
    assert toys.searcher.suggest("c") is None, "two slots"
    toys.searcher.on_trial_complete("a", result())
    toys.ask("c")
    toys.searcher.on_trial_complete("b", result())
    assert toys.searcher.suggest("d") is None, "none is left, but one still runs and may come back"
    toys.searcher.on_trial_complete("c", result())
    assert toys.searcher.suggest("d") == Searcher.FINISHED
    assert toys.study.finished


def test_a_driver_that_stops_gives_its_trials_back(toys: Sweeping) -> None:
    toys.ask("a")
    toys.searcher.stopping = True
    assert toys.searcher.suggest("b") == Searcher.FINISHED
    toys.searcher.give_back()
    assert toys.searcher.open == {}
    counts = toys.study.counts()
    assert (counts["preempted"], counts["running"]) == (1, 0)
    toys.searcher.stopping = False
    assert toys.runs("c"), "the next driver goes on"


def test_a_budget_of_gradients_lets_running_trials_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.0)
    with sweeping(tmp_path, max_gradients=150, spent=60.0) as toys:
        toys.ask("a")
        toys.ask("b")
        toys.searcher.on_trial_complete("a", result())  # 60 + 100
        assert toys.searcher.suggest("c") is None
        toys.searcher.on_trial_complete("b", result())
        assert toys.searcher.suggest("c") == Searcher.FINISHED
        assert not toys.study.finished


def test_a_trial_that_another_driver_was_given_is_stopped_and_its_result_refused(toys: Sweeping) -> None:
    toys.ask("a")
    opened = toys.searcher.open["a"]
    toys.study._give_back(opened.trial.suggest._trial_id)
    toys.study.leases.renew()
    assert toys.searcher.is_lost("a")
    assert Deadline(toys.searcher, None)("a", {})
    toys.searcher.on_trial_complete("a", result())
    assert toys.heard.ended_[0][1] == "preempted"
    assert toys.study.counts()["complete"] == 0


def test_a_trial_that_is_lost_while_it_begins_is_left_to_the_others(
    toys: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = toys.study.ask_some

    def ask_and_lose(most: int, share: int) -> Any:
        trials = ask(most, share)
        if trials and not toys.study.counts()["preempted"]:
            toys.study._give_back(trials[0].suggest._trial_id)
        return trials

    monkeypatch.setattr(toys.study, "ask_some", ask_and_lose)
    assert toys.runs("a")
    assert toys.searcher.error is None
    assert toys.study.counts()["preempted"] == 1
    assert len(toys.searcher.open) == len(toys.heard.begun_) == 1


def test_a_database_that_is_gone_ends_the_sweep_with_its_error(toys: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StudyError("Cannot use the study database.")

    monkeypatch.setattr(toys.study, "ask_some", away)
    assert toys.searcher.suggest("a") == Searcher.FINISHED
    assert isinstance(toys.searcher.error, StudyError)


def test_nothing_secret_is_pickled(toys: Sweeping) -> None:
    toys.ask("a")
    for thing in (toys.searcher, Deadline(toys.searcher, 5.0)):
        content = pickle.dumps(thing)
        assert SECRET.encode() not in content
        assert b"sqlite" not in content
    toys.searcher.save(str(toys.study.name))
    assert not Path(toys.study.name).exists()


def test_the_deadline_ends_the_sweep(toys: Sweeping) -> None:
    assert not Deadline(toys.searcher, None).stop_all()
    assert not Deadline(toys.searcher, math.inf).stop_all()
    assert isinstance(toys.searcher.suggest("a"), dict)
    deadline = Deadline(toys.searcher, 0.0)
    assert toys.searcher.suggest("b") == Searcher.FINISHED, "also while Tune only waits for a trial"
    assert deadline.stop_all()
    assert toys.searcher.stopping
    assert not toys.searcher.interrupted
