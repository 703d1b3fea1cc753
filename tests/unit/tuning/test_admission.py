"""Admission: what is admitted fits, what is left over fits no further trial, and what never fits is said at once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeprelax.errors import AdmissionError
from deeprelax.tuning.sweep import driver
from deeprelax.tuning.sweep.admission import Resources, Shape, concurrency, require_room

amounts = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0])
parts = st.fixed_dictionaries({"CPU": amounts}, optional={"GPU": amounts})
shapes = st.lists(parts, min_size=1, max_size=4).map(lambda found: Shape(tuple(found))).filter(lambda s: s.asking)
nodes = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 6).map(float)}, optional={"GPU": st.integers(0, 3).map(float)}),
    max_size=4,
)


class Cluster:
    """A cluster that starts the processes it is given and refuses what it has no room for, as Ray would."""

    def __init__(self, nodes: list[Resources]) -> None:
        self.left = [dict(node) for node in nodes]

    def start(self, shape: Shape) -> bool:
        before = [dict(node) for node in self.left]
        for part in shape.asking:
            for node in self.left:
                if all(node.get(name, 0.0) >= amount - 1e-6 for name, amount in part.items()):
                    for name, amount in part.items():
                        node[name] -= amount
                    break
            else:
                self.left = before
                return False
        return True


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
    ],
)
def test_what_never_fits_is_said_with_the_missing_amount(cluster: list[Resources], shape: Shape, says: str) -> None:
    with pytest.raises(AdmissionError, match=says):
        require_room(cluster, shape)


def test_the_number_of_slots_follows_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes: list[Resources] = [{"CPU": 2.0}]
    monkeypatch.setattr(driver, "alive_nodes", lambda: nodes)
    monkeypatch.setattr(driver, "NODES_S", -1.0)
    slots = driver.Slots(Shape(({"CPU": 1.0},)))
    assert slots() == 2
    nodes.append({"CPU": 3.0})
    assert slots() == 5
    nodes.clear()
    assert slots() == 1, "one trial waits in Ray's queue until nodes come back"
    with pytest.raises(AdmissionError):
        driver.Slots(Shape(({"CPU": 1.0},)))
