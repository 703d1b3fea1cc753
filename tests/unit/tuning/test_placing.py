"""Where trials are placed: the rule of ``auto``, what it learns, and what workers ask the cluster for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.toytasks import TOY
from tests.unit.tuning.sweeps import Heard, agreed, sweeping, toy_space

from deeprelax.config import RunConfig
from deeprelax.errors import AdmissionError, ConfigError, StudyError
from deeprelax.registry import find
from deeprelax.tuning.space import Choice, Constant, Int, SearchSpace
from deeprelax.tuning.space.search_space import union
from deeprelax.tuning.sweep.admission import Resources, Shape
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.finale import command_of, train_on_all
from deeprelax.tuning.sweep.largest import SMALLEST, Largest, largest
from deeprelax.tuning.sweep.nested import reserved
from deeprelax.tuning.sweep.packing import Packing
from deeprelax.tuning.sweep.places import Learner, Places
from deeprelax.tuning.sweep.placing import START_S, Known, least_seconds, sooner

HOUR = 3600.0
CLUSTER: list[Resources] = [{"CPU": 4.0}, {"CPU": 4.0}]


def known(**changes: Any) -> Known:
    """Two trials of an hour that are left for eight cores; each has four replicas."""
    return Known(**({"workers": 4, "seconds": HOUR, "left": 2, "slots_local": 8, "slots_ray": 2} | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ray"),
        ({"seconds": START_S}, "local"),  # a start costs as much as the trial
        ({"seconds": 4 / 3 * START_S + 1}, "ray"),  # a quarter of it and the start cost less
        ({"left": 1000}, "local"),  # turns keep all cores busy too, and start nothing
        ({"workers": 1}, "local"),
        ({"bound": True}, "local"),
        ({"slots_ray": 0}, "local"),
        ({"slots_local": 0}, "ray"),
        ({"gpus_per_replica": 1.0, "seconds": 1.0, "left": 1000}, "ray"),
        ({"gpus_per_replica": 0.5, "workers": 1}, "ray"),
    ],
)
def test_trials_are_placed_where_the_sweep_ends_sooner(changes: dict[str, Any], expected: str) -> None:
    assert sooner(known(**changes)) == expected


@given(st.floats(0.0, 1e6), st.integers(0, 100), st.integers(2, 20), st.integers(1, 20))
def test_a_longer_trial_never_goes_back_into_one_process(seconds: float, left: int, workers: int, slots: int) -> None:
    asked = {"workers": workers, "left": left, "slots_local": slots * workers, "slots_ray": slots}
    if sooner(known(seconds=seconds, **asked)) == "ray":
        assert sooner(known(seconds=2 * seconds, **asked)) == "ray"


def test_a_small_model_is_known_to_be_short_and_a_large_one_to_be_long() -> None:
    assert least_seconds(10_000, 3 * 10 * 1500) < START_S
    assert least_seconds(25_000_000, 3 * 90 * 1_281_167) > 100 * HOUR


def places(
    wish: Any = "auto", shape: Largest = SMALLEST, *, nodes: Sequence[Resources] = CLUSTER, **run: Any
) -> Places:
    return Places(agreed(run=run, seeds=2), wish, shape, lambda: nodes, lambda: 2)


def run(replicas: int = 2) -> RunConfig:
    return RunConfig(trainable=TOY, method="local_sgd", coupling={"replicas": replicas}, placement="local")


def test_auto_learns_from_trials_that_ended() -> None:
    found = places(shape=Largest(2, 0.0))
    heard = Heard()
    learner = Learner(found, heard)
    learner.begun(0)
    learner.ended(0, "failed", "", {"seconds": HOUR}, run())
    assert found.place(run()).placement == "local", "what failed says nothing"
    learner.ended(1, "complete", "", {"seconds": HOUR}, run())
    assert found.place(run()).placement == "ray"
    assert (heard.begun_, [number for number, _, _ in heard.ended_]) == ([0], [0, 1])
    for _ in range(1000):
        found.learn(run(), 1.0)
    assert found.place(run()).placement == "local"


def test_a_trial_on_workers_counts_as_long_as_its_replicas_would_take_in_turns() -> None:
    """Twelve seconds of four replicas of two seeds are 96 in turns, and 12 after a start."""
    found = places(shape=Largest(4, 0.0), nodes=[{"CPU": 16.0}])
    found.learn(run(4).with_fields(placement="ray"), 12.0)
    assert found.now == "ray"
    found = places(shape=Largest(4, 0.0), nodes=[{"CPU": 16.0}])
    found.learn(run(4), 6.0)
    assert found.now == "local"


def test_trials_of_an_earlier_driver_are_known_at_the_start() -> None:
    assert Places(agreed(seeds=2), "auto", Largest(2, 0.0), lambda: CLUSTER, lambda: 2, [HOUR]).now == "ray"


def test_threads_are_the_cores_of_a_replica_wherever_it_is() -> None:
    for fields, threads in (({}, 1), ({"cpus_per_trial": 2.5}, 2), ({"run": {"cpus_per_replica": 4.0}}, 4)):
        found = agreed(**fields).requested({"method": "local_sgd"}, holdout=0.0)
        assert found.threads == threads


def test_without_the_database_trials_go_where_they_went() -> None:
    def away() -> int:
        raise StudyError("the database is away")

    found = Places(agreed(), "auto", Largest(2, 0.0), lambda: CLUSTER, away)
    found.learn(run(), HOUR)
    assert found.now == "local"


def test_who_asks_for_a_process_or_for_workers_gets_them() -> None:
    assert places("local", Largest(2, HOUR)).place(run()).placement == "local"
    assert places("ray", Largest(2, 0.0)).place(run()).placement == "ray"
    assert places("auto", Largest(2, 0.0), gpus_per_replica=0.5).place(run()).gpus_per_replica == 0.5


@pytest.mark.parametrize(
    ("gpus", "asked", "expected"),
    [(4, None, 1.0), (3, None, 0.0), (4, 0.0, 0.0), (1, 0.25, 0.25)],
    ids=["enough", "too few", "none wanted", "shared"],
)
def test_workers_have_a_gpu_each_if_there_are_enough(gpus: int, asked: float | None, expected: float) -> None:
    nodes = [{"CPU": 8.0, "GPU": float(gpus)}]
    found = places("ray", Largest(2, 0.0), nodes=nodes, cpus_per_replica=2.0, gpus_per_replica=asked)
    worker = {"CPU": 2.0} | ({"GPU": expected} if expected else {})
    assert found.asked() == Shape((worker,) * 4), "two replicas of two seeds"
    assert found.place(run()).gpus_per_replica == expected


def test_tune_reserves_what_was_admitted() -> None:
    for wish, group in (("ray", [{"CPU": 1.0}] * 4), ("local", [{"CPU": 1.0}])):
        found = places(wish, Largest(3, 0.0))
        placed = found.place(run())
        job = placed.with_fields(coupling=placed.make_coupling().model_dump()).job()
        request = reserved({"CPU": 1.0, "GPU": 0.0}, {"number": 0, "runs": json.dumps([job, job])})
        assert request.bundles == group
        assert [dict(part) for part in found.shape_of(placed).asking] == group
        assert request.head_cpus == (0.0 if wish == "ray" else 1.0)


def test_more_replicas_than_were_expected_are_refused_only_if_they_do_not_fit() -> None:
    found = places("ray", Largest(2, 0.0))
    assert found.place(run(4)).placement == "ray"
    assert len(found.asked().asking) == 8, "from now on there must be room for them"
    with pytest.raises(ConfigError, match=r"10 CPU.*missing: 2 CPU.*fewer replicas"):
        found.place(run(5))


def test_replicas_on_workers_are_not_computed_together() -> None:
    for wish, gpus in (("ray", None), ("auto", 1.0)):
        with pytest.raises(ConfigError, match=r"workers .*with vectorize='auto'.*Leave one"):
            places(wish, vectorize="auto", gpus_per_replica=gpus)
    assert places("auto", Largest(4, HOUR), vectorize="auto").now == "local"


def test_trials_that_pause_have_no_workers() -> None:
    config = agreed(scheduler="pbt")
    with pytest.raises(ConfigError, match=r"workers .*with scheduler='pbt'"):
        Places(config, "ray", Largest(2, 0.0), lambda: CLUSTER, lambda: 2)
    assert Places(config, "auto", Largest(4, HOUR), lambda: CLUSTER, lambda: 2).now == "local"


def test_trials_on_workers_are_not_packed() -> None:
    found = places("auto", Largest(2, 0.0))
    packing = Packing(4, agreed()).unless(found.are_workers)
    assert packing.size == 4
    found.learn(run(), HOUR)
    assert packing.size == 1


def test_a_pack_takes_one_process() -> None:
    assert reserved({"CPU": 2.0}, {"pack": "[]"}).bundles == [{"CPU": 2.0}]


def space(name: str, *replicas: Any) -> SearchSpace:
    return SearchSpace(
        name=name,
        dimensions=(Constant(field="method", value="local_sgd"), Int(field="period", low=1, high=64), *replicas),
        summary="For tests.",
        source="none",
    )


@pytest.mark.parametrize(
    ("searched", "coupling", "expected"),
    [
        (toy_space(), {"replicas": 5}, 5),
        (space("few", Int(field="replicas", low=1, high=6)), {}, 6),
        (space("listed", Choice(field="replicas", choices=(1, 7, 3))), {}, 7),
        (space("fixed", Int(field="replicas", low=1, high=6)), {"replicas": 2}, 2),
        (
            union("both", [space("few", Int(field="replicas", low=1, high=6)), space("one")], summary="-", source="-"),
            {},
            6,
        ),
    ],
    ids=["given", "number", "choice", "given and searched", "in a branch"],
)
def test_the_largest_trial_of_a_space_is_known_before_one_is_suggested(
    searched: SearchSpace, coupling: dict[str, Any], expected: int
) -> None:
    config = agreed(coupling=coupling)
    assert largest(searched, Feasible(config, find(TOY))).replicas == expected


def test_the_size_of_the_largest_trial_counts_replicas_seeds_and_epochs() -> None:
    def seconds(**fields: Any) -> float:
        return largest(toy_space(), Feasible(agreed(**fields), find(TOY))).seconds

    one = seconds(coupling={"replicas": 1}, run={"epochs": 1.0})
    assert one > 0
    assert seconds(coupling={"replicas": 3}, seeds=2, run={"epochs": 2.0}) == pytest.approx(12 * one)


def test_a_placed_trial_is_stored_and_suggested_as_it_is_placed(tmp_path: Path) -> None:
    with sweeping(tmp_path, coupling={"replicas": 2}) as toys:
        found = places("ray", Largest(2, 0.0))
        toys.searcher._feasible = toys.searcher._feasible.placing(found.place)
        (job,) = toys.runs("a")
        assert job["placement"] == "ray"
        (stored,) = [trial.user_attrs["run"] for trial in toys.study.trials() if "run" in trial.user_attrs]
        assert stored["placement"] == "ray"


def test_the_final_run_goes_where_the_trials_went(tmp_path: Path) -> None:
    """More workers than this machine takes: what would train in one process is refused before anything starts."""
    config = agreed(coupling={"replicas": 10_000}).requested({"method": "local_sgd"}, holdout=0.0)
    assert " --local" in command_of(config, find(TOY))
    config = config.with_fields(placement="ray")
    assert " --local" not in command_of(config, find(TOY))
    with pytest.raises(AdmissionError, match=r"Invalid replicas=10000\. This machine"):
        train_on_all(config, tmp_path / "best")
    with pytest.raises(ConfigError, match=r"Invalid address='127.0.0.1:1'"):
        train_on_all(config.with_fields(coupling={"replicas": 2}), tmp_path / "best", address="127.0.0.1:1")
