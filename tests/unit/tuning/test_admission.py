"""Admission: what is admitted fits, what is left over fits no further trial, and what never fits is said at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.errors import AdmissionError
from deeprelax.tuning.sweep import driver
from deeprelax.tuning.sweep.admission import Resources, Shape, concurrency, require_room, shape_on_workers

amounts = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0])
parts = st.fixed_dictionaries({"CPU": amounts}, optional={"GPU": amounts})
workers = parts.filter(lambda part: any(part.values()))
on_workers = st.builds(shape_on_workers, workers, st.integers(1, 5))
shapes = st.lists(parts, min_size=1, max_size=4).map(lambda found: Shape(tuple(found))).filter(lambda s: s.asking)
nodes = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 6).map(float)}, optional={"GPU": st.integers(0, 3).map(float)}),
    max_size=4,
)


class Cluster:
    """A cluster that starts the processes it is given and refuses what it has no room for, as Ray would."""

    def __init__(self, nodes: list[Resources]) -> None:
        self.left = [dict(node) for node in nodes]
        self.running: list[tuple[Shape, list[tuple[dict[str, float], Resources]]]] = []

    def start(self, shape: Shape, order: Callable[[list[dict[str, float]]], None] = lambda _: None) -> bool:
        """Start all processes of a trial or none, each on the first node that has room, in some order of the nodes."""
        taken: list[tuple[dict[str, float], Resources]] = []
        for part in shape.asking:
            nodes = list(self.left)
            order(nodes)
            room = [node for node in nodes if all(node.get(key, 0.0) >= part[key] - 1e-6 for key in part)]
            if not room:
                for node, before in taken:
                    self._add(node, before, 1.0)
                return False
            self._add(room[0], part, -1.0)
            taken.append((room[0], part))
        self.running.append((shape, taken))
        return True

    def end(self, index: int) -> None:
        _, taken = self.running.pop(index)
        for node, part in taken:
            self._add(node, part, 1.0)

    @property
    def shapes(self) -> list[Shape]:
        return [shape for shape, _ in self.running]

    def _add(self, node: dict[str, float], part: Resources, sign: float) -> None:
        for name, amount in part.items():
            node[name] += sign * amount


@given(nodes, shapes)
def test_all_admitted_trials_run_at_once_and_no_further_one_would(cluster: list[Resources], shape: Shape) -> None:
    most = concurrency(cluster, shape)
    real = Cluster(cluster)
    assert all(real.start(shape) for _ in range(most)), "an admitted trial waits for ever"
    assert not real.start(shape), "a slot is idle that could run"


@given(nodes, shapes, st.integers(1, 12), st.randoms(use_true_random=False))
def test_a_sweep_of_admitted_trials_always_ends(cluster: list[Resources], shape: Shape, trials: int, random) -> None:  # type: ignore[no-untyped-def]
    most = concurrency(cluster, shape)
    if not most:
        with pytest.raises(AdmissionError):
            require_room(cluster, shape)
        return
    waiting, running = trials, 0
    for _ in itertools.count():
        begun = min(waiting, most - running)
        waiting, running = waiting - begun, running + begun
        if not running:
            break
        assert waiting == 0 or running == most, "a trial waits beside an idle slot"
        running -= random.randint(1, running)
    assert waiting == 0


@settings(deadline=None)
@given(nodes, workers, st.lists(st.integers(1, 5), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_trials_on_workers_never_wait_for_each_other(
    cluster: list[Resources], worker: Resources, replicas: list[int], random: Random
) -> None:
    largest = shape_on_workers(worker, max(replicas))
    real = Cluster(cluster)
    waiting = [shape_on_workers(worker, count) for count in replicas]
    if not concurrency(cluster, largest):
        return
    while waiting or real.running:
        while waiting and concurrency(cluster, largest, real.shapes):
            # Whichever nodes Ray chooses.
            assert real.start(waiting.pop(), random.shuffle), "an admitted trial has not found its workers"
        spare = Cluster(real.left)  # type: ignore[arg-type]
        assert not waiting or not spare.start(largest), "a slot is idle that could run"
        real.end(random.randrange(len(real.running)))


@settings(deadline=None)
@given(nodes, st.lists(on_workers, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_sweeps_that_do_not_know_of_each_other_all_end(
    cluster: list[Resources], trials: list[Shape], random: Random
) -> None:
    """Each trial is placed whole or not at all, so when nothing runs any of them can."""
    real = Cluster(cluster)
    waiting = [shape for shape in trials if concurrency(cluster, shape)]
    while waiting or real.running:
        random.shuffle(waiting)
        waiting = [shape for shape in waiting if not real.start(shape, random.shuffle)]
        assert real.running, "trials wait, and none runs"
        real.end(random.randrange(len(real.running)))


@settings(deadline=None)
@given(nodes, shapes, st.integers(0, 20))
def test_trials_that_run_take_their_room(cluster: list[Resources], shape: Shape, running: int) -> None:
    alone = concurrency(cluster, shape)
    running = min(running, alone)
    assert concurrency(cluster, shape, [shape] * running) == alone - running


@given(nodes, shapes)
def test_a_larger_cluster_never_runs_fewer(cluster: list[Resources], shape: Shape) -> None:
    assert concurrency([*cluster, {"CPU": 64.0, "GPU": 8.0}], shape) > concurrency(cluster, shape) - 1


@pytest.mark.parametrize(
    ("cluster", "shape", "expected"),
    [
        ([{"CPU": 2.0}], Shape(({"CPU": 1.0},)), 2),
        ([{"CPU": 0.3}], Shape(({"CPU": 0.1},)), 3),
        ([{"CPU": 3.0}, {"CPU": 3.0}], Shape(({"CPU": 2.0},)), 2),
        ([{"CPU": 8.0, "GPU": 1.0}], Shape(({"CPU": 1.0, "GPU": 0.25},)), 4),
        # Three replicas, a server and a driver that takes nothing.
        ([{"CPU": 4.0}, {"CPU": 4.0}], Shape((*[{"CPU": 1.0}] * 3, {"CPU": 0.5}, {"CPU": 0.0})), 2),
        # Two runs of three replicas with a GPU each: the node with four holds four of them, the others two.
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}], shape_on_workers({"CPU": 1.0, "GPU": 1.0}, 6), 1),
        ([], Shape(({"CPU": 1.0},)), 0),
    ],
)
def test_how_many_run_at_once(cluster: list[Resources], shape: Shape, expected: int) -> None:
    assert concurrency(cluster, shape) == expected


@pytest.mark.parametrize(
    ("cluster", "shape", "says"),
    [
        ([{"CPU": 2.0}], Shape(({"CPU": 8.0},)), "missing: 6 CPU"),
        ([{"CPU": 2.0}] * 3, Shape(({"CPU": 2.0},) * 5), "missing: 4 CPU"),
        ([{"CPU": 2.0}], Shape(({"CPU": 1.0, "GPU": 1.0},)), "missing: 1 GPU"),
        ([{"CPU": 2.0}] * 4, Shape(({"CPU": 4.0},)), "a node that holds one of its processes"),
        ([{"CPU": 2.0}], Shape(({"CPU": 0.0},)), "asks for nothing"),
        ([{"CPU": 2.0}], shape_on_workers({"CPU": 1.0, "GPU": 1.0}, 3), "missing: 1 CPU and 3 GPU.*gpus_per_replica"),
    ],
)
def test_what_never_fits_is_said_with_the_missing_amount(cluster: list[Resources], shape: Shape, says: str) -> None:
    with pytest.raises(AdmissionError, match=says):
        require_room(cluster, shape)


def test_the_number_of_slots_follows_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[Resources] = [{"CPU": 2.0}]
    monkeypatch.setattr(driver, "alive_nodes", lambda: nodes)
    monkeypatch.setattr(driver, "NODES_S", -1.0)
    shape = Shape(({"CPU": 1.0},))
    slots = driver.Slots(lambda: shape, list)
    assert slots() == 2
    nodes.append({"CPU": 3.0})
    assert slots() == 5
    nodes.clear()
    assert slots() == 1, "one trial waits in Ray's queue until nodes come back"
    with pytest.raises(AdmissionError):
        driver.Slots(lambda: shape, list)
