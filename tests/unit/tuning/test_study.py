"""A study asks for exactly its trials, keeps every outcome, and hands trials on."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tests.unit.tuning.machine import check_leases
from tests.unit.tuning.studies import age, opened, terms, url

from deeprelax.errors import ConfigError, LeaseError, StudyError
from deeprelax.tuning.study import Study, Terms, Trial, ledger, list_studies
from deeprelax.tuning.study.ledger import DRIVER, OUTCOME
from deeprelax.tuning.study.trial import REPORT


def ask(study: Study) -> Trial:
    trial = study.ask()
    assert trial is not None
    trial.suggest.suggest_float("x", -1, 1)
    return trial


def test_no_more_trials_are_asked_for_than_agreed(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=3)) as one, opened(tmp_path) as two:
        trials = [ask(one), ask(two), ask(one)]
        assert one.ask() is None
        assert two.ask() is None
        assert sorted(trial.number for trial in trials) == [0, 1, 2]
        assert [one.finished, two.finished] == [False, False]
        for trial in trials:
            trial.complete([0.5])
        assert [one.finished, two.finished] == [True, True]
        assert two.counts()["complete"] == two.counts()["asked"] == 3


def test_drivers_that_ask_at_the_same_time_never_get_the_same_trial(tmp_path: Path) -> None:
    opened(tmp_path, terms(trials=24)).close()
    start = threading.Barrier(4)

    def drive(_: int) -> list[int]:
        with opened(tmp_path) as study:
            start.wait()
            numbers = []
            while trial := study.ask():
                numbers.append(trial.number)
                trial.complete([1.0])
            return numbers

    with ThreadPoolExecutor(4) as pool:
        claimed = [number for numbers in pool.map(drive, range(4)) for number in numbers]
    assert sorted(claimed) == list(range(24))


def test_drivers_that_make_a_study_at_the_same_time_make_one(tmp_path: Path) -> None:
    start = threading.Barrier(4)

    def make(_: int) -> dict[str, int]:
        start.wait()
        with Study.open("parabola", terms(trials=5), url=url(tmp_path)) as study:  # the tables too
            return dict(study.counts())

    with ThreadPoolExecutor(4) as pool:
        assert [counts["asked"] for counts in pool.map(make, range(4))] == [5] * 4
    with opened(tmp_path) as study:
        assert study.counts()["waiting"] == 5


def test_what_a_dead_creator_left_out_is_made_by_the_next_driver(tmp_path: Path) -> None:
    points = [{"x": 0.25}, {"x": 0.5}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, "_settled", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, terms(trials=4), first=points)
    with opened(tmp_path) as study:
        assert study.counts()["waiting"] == 4
        trials = [ask(study) for _ in range(4)]
        assert [trial.suggest.params["x"] for trial in trials[:2]] == [0.25, 0.5]


def test_a_preempted_trial_runs_again_with_the_same_parameters(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1, retries=0)) as study:
        for _ in range(3):
            trial = ask(study)
            trial.fail("node drained", "preempted")
        again = ask(study)
        again.complete([1.0])
        assert len({found.params["x"] for found in study.trials()}) == 1
        assert study.counts() == counted(preempted=3, complete=1)
        assert study.finished


def counted(**numbers: int) -> dict[str, int]:
    names = ("waiting", "running", "complete", "pruned", "failed", "preempted", "lost", "infeasible")
    return {name: numbers.get(name, 0) for name in names} | {"asked": sum(numbers.values())}


def test_a_failed_trial_runs_again_as_often_as_agreed(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1, retries=2)) as study:
        for _ in range(3):
            assert not study.finished
            ask(study).fail("out of memory", "failed")
        assert study.ask() is None
        assert study.finished
        assert study.counts() == counted(failed=3)


def test_an_infeasible_suggestion_is_replaced_by_another(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as study:
        ask(study).fail("kappa_in > 2", "infeasible")
        trial = ask(study)
        trial.complete([1.0])
        first, second = study.trials()
        assert first.params["x"] != second.params["x"]
        assert study.counts() == counted(infeasible=1, complete=1)
        assert study.finished


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_failure_with_its_reason(tmp_path: Path, value: float) -> None:
    with opened(tmp_path, terms(trials=1)) as study:
        ask(study).complete([value])
        (found,) = study.trials()
        assert found.state == TrialState.FAIL
        assert found.values is None
        assert found.user_attrs[OUTCOME] == {
            "kind": "diverged",
            "why": f"Invalid center/error={value}. Must be finite.",
        }
        assert study.finished
        assert study.counts() == counted(failed=1)


def test_a_pruned_trial_keeps_its_fidelity(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=2)) as study:
        ask(study).prune(0.75, 20.0, "asha")
        reported = ask(study)
        reported.report(0.5, 10)
        reported.prune(0.25, 30.0, "asha")
        first, second = study.trials()
        assert (first.state, first.value, first.intermediate_values) == (TrialState.PRUNED, 0.75, {20: 0.75})
        assert first.user_attrs[OUTCOME] == {"kind": "pruned", "why": "asha", "value": 0.75, "fidelity": 20.0}
        assert second.intermediate_values == {10: 0.5}
        assert study.finished


def test_with_several_metrics_a_pruned_trial_does_not_break_the_sampler(tmp_path: Path) -> None:
    agreed = terms(trials=14, metrics=("error", "bytes"), directions=("minimize",) * 2, sampler="tpe")
    with opened(tmp_path, agreed) as study:
        while trial := study.ask():
            x = trial.suggest.suggest_float("x", 0, 1)
            trial.report(x, 1)
            if trial.number == 2:
                trial.prune(x, 1.0, "asha")
            else:
                trial.complete([x, 1 - x])
        assert study.counts() == counted(complete=13, pruned=1)
        assert study.trials()[2].user_attrs[REPORT]["step"] == 1


def test_the_trials_of_a_silent_driver_are_given_back_and_its_result_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as silent, opened(tmp_path) as other:
        trial = ask(silent)
        age(other, 30)
        assert other.reclaim() == 0
        age(other, 30)
        assert other.reclaim() == 1
        assert other.reclaim() == 0
        again = ask(other)
        assert again.suggest.params == trial.suggest.params
        with pytest.raises(LeaseError, match="Trial 0 was given back to the queue"):
            trial.complete([0.0])
        again.complete([1.0])
        assert other.counts() == counted(lost=1, complete=1)
        assert [found.values for found in other.trials()] == [None, [1.0]]


def test_a_silent_driver_learns_that_its_trial_is_lost(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as silent, opened(tmp_path) as other:
        trial = ask(silent)
        age(other, 60)
        other.reclaim()
        noticed = [trial.is_lost]
        silent.leases.renew()
        assert [*noticed, trial.is_lost] == [False, True]
        assert silent.leases.held == []
        with pytest.raises(LeaseError):
            trial.report(0.0, 1)
        with pytest.raises(LeaseError):
            trial.note(cost=1)


def test_a_renewed_lease_does_not_end(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as driver, opened(tmp_path) as other:
        trial = ask(driver)
        for _ in range(3):
            age(other, 40)
            driver.leases.renew()
            assert other.reclaim() == 0
        trial.complete([1.0])
        assert other.finished


def test_the_lease_thread_renews_by_itself(tmp_path: Path) -> None:
    with Study.open("parabola", terms(trials=1), url=url(tmp_path), heartbeat_s=0.02) as study:
        ask(study)
        age(study, 600)
        renewed = threading.Event()
        plain = study.leases._renew

        def renew(trial_ids: object) -> set[int]:
            lost = plain(trial_ids)  # type: ignore[arg-type]
            renewed.set()
            return lost

        study.leases._renew = renew
        assert renewed.wait(20)
        with opened(tmp_path) as other:
            assert other.reclaim() == 0


def test_closing_gives_running_trials_back(tmp_path: Path) -> None:
    study = opened(tmp_path, terms(trials=1))
    trial = ask(study)
    study.close()
    with opened(tmp_path) as other:
        assert other.counts() == counted(preempted=1, waiting=1)
        with pytest.raises(LeaseError):
            trial.complete([1.0])


def test_an_outcome_is_said_once(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as study:
        trial = ask(study)
        trial.complete([1.0])
        with pytest.raises(StudyError, match="Trial 0 has its outcome already"):
            trial.complete([2.0])
        with pytest.raises(StudyError, match="has its outcome already"):
            trial.fail("late")
        assert study.trials()[0].value == 1.0


def test_a_stop_reaches_all_drivers_and_later_ones_go_on(tmp_path: Path) -> None:
    with opened(tmp_path, terms()) as one, opened(tmp_path) as two:
        one.request_stop()
        assert one.stop_requested
        assert two.stop_requested
        assert two.ask() is None
        with opened(tmp_path) as later:
            assert not later.stop_requested
            assert later.ask() is not None


def test_notes_and_the_driver_are_plain_json(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1), cluster={"cluster_id": "a1", "gpus": 8}) as study:
        trial = ask(study)
        trial.note(run_dir="runs/7", cost={"gradients": 12, "seconds": 0.5})
        with pytest.raises(ConfigError, match="Must be plain JSON"):
            trial.note(bad=object())  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="Must not start with"):
            trial.note(**{"deeprelax:slot": 9})
        (found,) = study.trials()
        assert found.user_attrs["cost"] == {"gradients": 12, "seconds": 0.5}
        driver = found.user_attrs[DRIVER]
        assert driver["cluster_id"] == "a1"
        assert driver["gpus"] == 8
        assert {"host", "pid", "versions", "cores"} <= driver.keys()
        json.dumps(found.user_attrs)


def test_a_study_is_resumed_with_its_own_terms(tmp_path: Path) -> None:
    agreed = terms(settings={"trainable": "digits", "budget": {"epochs": 3}}, seed=7)
    opened(tmp_path, agreed).close()
    with opened(tmp_path) as study:
        assert study.terms == agreed
        assert isinstance(study.terms, Terms)
        assert study.terms.metrics == ("center/error",)


def test_studies_are_listed(tmp_path: Path) -> None:
    assert list_studies(url(tmp_path)) == []
    with opened(tmp_path, terms(), "first") as study:
        ask(study).complete([1.0])
    opened(tmp_path, terms(trials=1), "second").close()
    first, second = list_studies(url(tmp_path))
    assert (first.name, first.done, first.terms.trials) == ("first", 1, 3)
    assert (second.name, second.counts["waiting"]) == ("second", 1)


def test_a_queue_shorter_than_the_study_gives_every_trial_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "WINDOW", 4)
    with opened(tmp_path, terms(trials=11)) as one, opened(tmp_path) as two:
        assert one.counts() == counted(waiting=11)
        numbers = []
        for driver in (one, two) * 6:
            if trial := driver.ask():
                numbers.append(trial.number)
                trial.complete([1.0])
        assert sorted(numbers) == list(range(11))
        assert one.finished
        assert len(one._storage.get_all_trials(one._id)) == 11


def test_a_deleted_study_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, terms()) as study:
        study._storage.delete_study(study._id)
        for look in (study.ask, study.counts):
            with pytest.raises(StudyError, match="Study 'parabola' was deleted from sqlite"):
                look()
        assert study.reclaim() == 0


def test_values_must_match_the_metrics(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=1)) as study:
        trial = ask(study)
        with pytest.raises(ConfigError, match="Must be one for each of center/error"):
            trial.complete([1.0, 2.0])
        trial.complete([1.0])


def test_any_order_of_silences_deaths_and_late_results() -> None:
    check_leases(examples=4, steps=20)
