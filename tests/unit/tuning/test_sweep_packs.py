"""Packs: several trials of the study in one call of a process, each with its own lease, outcome and failure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from tests.unit.toytasks import TOY, ToyConfig, toy
from tests.unit.tuning.sweeps import Sweeping, agreed, stiff_space, sweeping
from tests.unit.tuning.test_sweep_searcher import result
from tests.unit.tuning.test_sweep_trial import given, trial_config

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, StudyError
from deeprelax.tuning.sweep import searcher as module
from deeprelax.tuning.sweep.packing import MOST, MOST_LEARNING, PACK_S, Packing
from deeprelax.tuning.sweep.trial import PackConfig, SweepTrial, TrialConfig


def packed(*results: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    took = {} if seconds is None else {"time_total_s": seconds}
    return {"pack": json.dumps(results), "done": True} | took


def states(toys: Sweeping) -> list[str]:
    return [trial.state.name for trial in toys.study.trials()]


def test_a_pack_is_one_trial_to_tune_and_several_to_the_study(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=5, pack=3, slots=1) as toys:
        trials = toys.pack("a")
        assert [trial["number"] for trial in trials] == [0, 1, 2] == toys.heard.begun_
        assert len({trial["runs"] for trial in trials}) == 3
        assert len(toys.study.leases.held) == 3
        assert toys.searcher.suggest("b") is None, "one slot"
        toys.searcher.on_trial_complete("a", packed(*(result(0.1 * i, gradients=10.0) for i in range(3))))
        done = [trial for trial in toys.study.trials() if trial.state is TrialState.COMPLETE]
        assert [trial.values for trial in done] == [[0.0], [0.1], [0.2]]
        assert all(trial.user_attrs["cost"]["gradients"] == 10.0 for trial in done)
        assert toys.heard.ended_ == [(number, "complete", "") for number in range(3)]
        assert [trial["number"] for trial in toys.pack("b")] == [3, 4]
        toys.searcher.on_trial_complete("b", packed(result(), result()))
        assert toys.searcher.suggest("c") == Searcher.FINISHED, "at once: Tune would sleep"


def test_what_remains_is_shared_by_the_slots(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=5, pack=4, slots=2) as toys:
        assert len(toys.pack("a")) == 2
        assert toys.ask("b")["number"] == 2, "3 wait"


def test_the_failure_of_one_does_not_touch_the_others(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=5, pack=5, slots=1) as toys:
        toys.pack("a")
        toys.searcher.on_trial_complete(
            "a",
            packed(
                result(0.5),
                {"failed": "The loss is nan.", "diverged": True, "done": True},
                {"failed": "ValueError: no", "diverged": False, "done": True},
                result(math.nan),
                result(0.25),
            ),
        )
        assert states(toys)[:5] == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
        assert [outcome for _, outcome, _ in toys.heard.ended_] == ["complete", *["failed"] * 3, "complete"]
        assert toys.heard.ended_[1][2] == "The loss is nan."
        again = [toys.ask("b")["number"]]
        toys.searcher.on_trial_complete("b", result())
        again.append(toys.ask("c")["number"])
        assert again == [5, 6], "the two that may run again, each alone; a divergence is not tried again"


def test_a_pack_whose_process_died_runs_again_one_by_one(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=3, pack=3, slots=1) as toys:
        first = [trial["runs"] for trial in toys.pack("a")]
        toys.searcher.on_trial_complete("a", error=True)
        assert {outcome for _, outcome, _ in toys.heard.ended_} == {"preempted"}
        assert "worker process died" in toys.heard.ended_[0][2]
        again = []
        for name in "bcde":
            again.append(toys.ask(name)["runs"])
            toys.searcher.on_trial_complete(name, None if name == "c" else result(), error=name == "c")
        assert again == [first[0], first[1], first[1], first[2]], "the same runs"
        counts = toys.study.counts()
        assert (counts["complete"], counts["preempted"], counts["failed"]) == (3, 3, 1), "the reason is found"


def test_a_driver_that_stops_gives_a_whole_pack_back(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=4, pack=3, slots=2) as toys:
        toys.pack("a")
        toys.ask("b")
        toys.searcher.stopping = True
        toys.searcher.give_back()
        assert toys.study.counts()["preempted"] == 3
        assert toys.study.counts()["running"] == 0
        assert (toys.searcher.open, toys.searcher.packs) == ({}, {})
        assert len(toys.heard.ended_) == 3


def test_one_that_another_driver_was_given_is_refused_alone(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=3, pack=3, slots=1) as toys:
        toys.pack("a")
        toys.study._give_back(toys.searcher.packs["a"][1].trial.suggest._trial_id)
        toys.searcher.on_trial_complete("a", packed(result(), result(), result()))
        assert [outcome for _, outcome, _ in toys.heard.ended_] == ["complete", "preempted", "complete"]
        assert "given back to the queue" in toys.heard.ended_[1][2]
        assert toys.study.counts()["complete"] == 2


def test_infeasible_ones_are_left_out_of_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INFEASIBLE_AT_ONCE", 1)
    with sweeping(tmp_path, stiff_space(), trials=4, pack=3, slots=1) as toys:
        assert toys.searcher.suggest("a") is None
        assert toys.study.counts()["infeasible"] == 3
    with sweeping(tmp_path, trials=4, pack=3, slots=1, file="others") as toys:
        feasible = toys.searcher._feasible.runs

        def runs(requested: Any) -> Any:
            if not toys.heard.begun_ and not toys.heard.ended_:
                raise ConfigError("too stiff")
            return feasible(requested)

        monkeypatch.setattr(toys.searcher._feasible, "runs", runs)
        assert [trial["number"] for trial in toys.pack("a")] == [1, 2]
        assert toys.heard.ended_ == [(0, "infeasible", "too stiff")]


def test_a_database_that_is_gone_when_a_pack_ends_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sweeping(tmp_path, trials=3, pack=3, slots=1) as toys:
        toys.pack("a")

        def away(*_: object) -> None:
            raise StudyError("Cannot use the study database.")

        with monkeypatch.context() as patch:
            patch.setattr(toys.study._storage, "together", away)
            toys.searcher.on_trial_complete("a", packed(result(), result(), result()))
        assert isinstance(toys.searcher.error, StudyError)
        assert toys.heard.ended_ == []


def test_the_size_follows_from_how_long_trials_take() -> None:
    packing = Packing("auto", agreed())
    assert packing.size == 1, "nothing is known"
    packing.took(4.0, 1)  # the first one of a process loads the data
    assert packing.size == 1
    for _ in range(4):
        packing.took(PACK_S / 5, 1)
    assert packing.size == 5
    for _ in range(9):
        packing.took(PACK_S, 100)
    assert packing.size == MOST


@pytest.mark.parametrize(("sampler", "most"), [("tpe", MOST_LEARNING), ("gp", MOST_LEARNING), ("grid", MOST)])
def test_a_sampler_that_learns_is_asked_for_few_at_once(sampler: str, most: int) -> None:
    packing = Packing("auto", agreed(sampler=sampler))
    packing.took(0.0, 1)
    assert packing.size == most
    assert Packing(50, agreed(sampler=sampler)).size == 50, "as the user says"


@pytest.mark.parametrize("fields", [{"scheduler": "asha"}, {"max_gradients": 1000}])
def test_trials_that_may_have_to_stop_are_not_packed_by_themselves(fields: dict[str, Any]) -> None:
    packing = Packing("auto", agreed(**fields))
    packing.took(0.001, 1)
    assert packing.size == 1


def test_the_searcher_measures_and_packs_by_itself(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=9, pack="auto", slots=1) as toys:
        toys.ask("a")
        toys.searcher.on_trial_complete("a", result() | {"time_total_s": PACK_S / 3})
        assert len(toys.pack("b")) == 3
        toys.searcher.on_trial_complete("b", packed(result(), result(), result(), seconds=PACK_S))
        assert len(toys.pack("c")) == 3


def trained(process: SweepTrial, *trials: TrialConfig) -> list[dict[str, Any]]:
    process.reset_config(PackConfig(pack=json.dumps(trials)))
    row = process.step()
    assert row.keys() == {"pack", "done"}
    assert row["done"] is True
    results: list[dict[str, Any]] = json.loads(str(row["pack"]))
    return results


def one_by_one(process: SweepTrial, trial: TrialConfig) -> dict[str, Any]:
    process.reset_config(trial)
    row = process.step()
    while not row["done"]:
        row = process.step()
    return row


def numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return all but the seconds."""
    errors = {name: value for name, value in json.loads(row["standard_errors"]).items() if name != "seconds"}
    return {name: value for name, value in row.items() if name != "seconds"} | {"standard_errors": errors}


@pytest.fixture
def process(tmp_path: Path) -> SweepTrial:
    found = SweepTrial.__new__(SweepTrial)
    found.setup(trial_config(0), given(tmp_path))
    return found


def test_a_pack_has_the_numbers_of_its_trials_alone_bit_for_bit(process: SweepTrial, tmp_path: Path) -> None:
    trials = [trial_config(1, 5, dropout=0.3), trial_config(2, 6, 7, dropout=0.3), trial_config(3, 5)]
    together = trained(process, *trials)
    files = [(tmp_path / f"{number:05d}/seed-5/metrics.jsonl").read_text() for number in (1, 3)]
    assert len(files[0].splitlines()) == 2, "every evaluation is in the folder"
    alone = [one_by_one(process, trial) for trial in trials]
    assert [numbers(row) for row in together] == [numbers(row) for row in alone]


def vectorized(trial: TrialConfig, how: str = "always") -> TrialConfig:
    runs = [run | {"vectorize": how} for run in json.loads(trial["runs"])]
    return TrialConfig(number=trial["number"], runs=json.dumps(runs))


def test_trials_computed_together_have_the_same_results_to_rounding(process: SweepTrial, tmp_path: Path) -> None:
    trials = [
        trial_config(1, 5, dropout=0.3),
        trial_config(2, 6, 7, dropout=0.3),
        trial_config(3, 5, epochs=3, dropout=0.3),
    ]
    alone = [one_by_one(process, trial) for trial in trials]
    together = trained(process, *map(vectorized, trials))
    for one, other in zip(alone, together, strict=True):
        assert other["center/loss"] == pytest.approx(one["center/loss"], rel=1e-4)
        exact = ("passes", "bytes_exchanged", "gradients", "finished", "gradient_evaluations_total")
        assert {name: other[name] for name in exact} == {name: one[name] for name in exact}
        assert json.loads(other["standard_errors"]).keys() == json.loads(one["standard_errors"]).keys()
        assert "one_by_one" not in other
        assert other["seconds"] > 0
    for folder in ("00001/seed-5", "00002/seed-6", "00002/seed-7", "00003/seed-5"):
        assert json.loads((tmp_path / folder / "events.jsonl").read_text().splitlines()[0])["vectorized"] is True
        assert (tmp_path / folder / "result.json").is_file()
        assert not (tmp_path / folder / "checkpoints").exists()


def parle_config(number: int, *seeds: int, lr: str = "0.05") -> TrialConfig:
    first = RunConfig(
        trainable=TOY, trainable_config=ToyConfig().model_dump(), method="parle", placement="local", epochs=2,
        threads=1, coupling={"replicas": 2, "period": 4}, holdout=0.25, vectorize="always",
    )  # fmt: skip
    resolved = first.resolved(first.judged(toy(ToyConfig())))
    runs = [resolved.with_fields(seed=seed).job() for seed in seeds]
    runs[0]["coupling"]["lr"] = lr  # type: ignore[index]
    return TrialConfig(number=number, runs=json.dumps(runs))


def test_a_trial_that_diverges_among_those_computed_together_fails_alone(process: SweepTrial, tmp_path: Path) -> None:
    good, bad, last = parle_config(1, 0), parle_config(2, 1, 2, lr="1e30"), parle_config(3, 3)
    rows = trained(process, good, bad, last)
    assert [row.get("finished") for row in rows] == [True, None, True]
    assert rows[1]["diverged"] is True
    assert "one_by_one" not in rows[0], "the others went on together"
    assert not (tmp_path / "00002/seed-2/result.json").exists(), "one seed fails, so the trial does"
    for row, trial in zip(rows[::2], (good, last), strict=True):
        assert row["center/loss"] == pytest.approx(one_by_one(process, trial)["center/loss"], rel=1e-4)


def test_an_error_in_what_they_share_leaves_them_to_be_trained_one_by_one(process: SweepTrial) -> None:
    rows = trained(process, parle_config(1, 0), parle_config(2, 1, lr="1e200"))  # too large to be a float32
    assert rows[0]["finished"] is True
    assert "overflow" in rows[0]["one_by_one"]
    assert "overflow" in rows[1]["failed"]


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ((trial_config(1, batchnorm=True), trial_config(2, batchnorm=True)), "BatchNorm"),
        ((trial_config(1), trial_config(2, dropout=0.3)), "differ in the trainable's own config"),
        ((trial_config(1), trial_config(2)), "it has 2 replicas, and below 3"),
    ],
)
def test_what_cannot_be_computed_together_is_trained_one_by_one_and_says_why(
    process: SweepTrial, trials: tuple[TrialConfig, TrialConfig], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deeprelax.execution.stacked.PAYS_FROM_REPLICAS", 3 if "below" in says else 2)
    rows = trained(process, *(vectorized(trial, "auto") for trial in trials))
    assert [row["finished"] for row in rows] == [True, True]
    assert all(says in row["one_by_one"] for row in rows)
    assert [row["center/loss"] for row in rows] == [one_by_one(process, trial)["center/loss"] for trial in trials]


def test_why_trials_were_trained_one_by_one_is_noted_in_the_study(tmp_path: Path) -> None:
    with sweeping(tmp_path, trials=3, pack=3, slots=1) as toys:
        toys.pack("a")
        toys.searcher.on_trial_complete("a", packed(*[result(one_by_one="BatchNorm")] * 3))
        assert {trial.user_attrs["one_by_one"] for trial in toys.study.trials()} == {"BatchNorm"}


def test_what_a_trial_of_a_pack_raises_is_its_own_result(process: SweepTrial) -> None:
    impossible = TrialConfig(number=2, runs=json.dumps([{"trainable": "nowhere", "threads": 1, "epochs": -1}]))
    first, poisoned, wrong, last = trained(
        process, trial_config(0), trial_config(1, poisoned=True), impossible, trial_config(3)
    )
    assert first["finished"] is last["finished"] is True
    assert poisoned["diverged"] is True
    assert "Invalid epochs=-1" in wrong["failed"]
    assert numbers(first) == numbers(last)
