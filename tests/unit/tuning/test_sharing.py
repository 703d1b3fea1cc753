"""Sweeps on one cluster get equal shares of it, leave nothing idle that one of them could use, and all end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.tuning.sweep.admission import Shape, shape_of
from deeprelax.tuning.sweep.sharing import Claim, divide, may_run

NODES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(lambda cpus: [{"CPU": float(n)} for n in cpus])
TURNS = st.integers(0, 1000)
WORK = st.lists(st.none() | st.integers(0, 8), min_size=1, max_size=6)


def claims(most: list[int | None], cpus: float = 1.0) -> list[Claim]:
    return [Claim(driver=f"d{i}", shape=shape_of(cpus, 0), most=limit) for i, limit in enumerate(most)]


@given(NODES, st.integers(1, 6), TURNS)
def test_who_has_work_enough_gets_an_equal_part(nodes: list[dict[str, float]], drivers: int, turn: int) -> None:
    slots = sum(int(node["CPU"]) for node in nodes)
    shares = divide(nodes, claims([None] * drivers), turn).values()
    assert sum(shares) == slots
    assert set(shares) <= {slots // drivers, ceil(slots / drivers)}


@given(NODES, st.integers(1, 6), TURNS)
def test_what_does_not_divide_evenly_goes_round(nodes: list[dict[str, float]], drivers: int, turn: int) -> None:
    total: Counter[str] = Counter()
    for later in range(drivers):
        total.update(divide(nodes, claims([None] * drivers), turn + later))
    assert len(set(total.values())) == 1


@given(NODES, WORK, TURNS)
def test_what_one_has_no_work_for_goes_to_the_others(
    nodes: list[dict[str, float]], work: list[int | None], turn: int
) -> None:
    slots = sum(int(node["CPU"]) for node in nodes)
    shares = divide(nodes, claims(work), turn)
    wanted = sum(slots if most is None else most for most in work)
    assert sum(shares.values()) == min(slots, wanted)
    for driver, most in zip(shares, work, strict=True):
        unserved = most is None or shares[driver] < most
        assert not unserved or shares[driver] >= max(shares.values()) - 1


def test_a_large_trial_comes_to_its_turn_beside_small_ones() -> None:
    small, large = Claim(driver="a", shape=shape_of(1, 0)), Claim(driver="b", shape=shape_of(4, 0))
    shares = [divide([{"CPU": 4.0}], [small, large], turn) for turn in range(2)]
    assert shares == [{"a": 4, "b": 0}, {"a": 0, "b": 1}]


def test_replicas_on_several_nodes_are_placed_together() -> None:
    spread = Claim(driver="a", shape=Shape(({"CPU": 2.0}, {"CPU": 2.0})))
    assert divide([{"CPU": 3.0}, {"CPU": 3.0}], [spread, *claims([None])], 0) == {"a": 1, "d0": 2}


@dataclass
class Sweep:
    """A driver as the others see it.

    Args:
        cpus: of a trial.
        left: trials that nobody has begun.
    """

    cpus: int
    left: int
    running: int = 0
    in_vain: bool = False

    def claim(self, name: str) -> Claim:
        most = self.running if self.in_vain else None
        return Claim(driver=name, shape=shape_of(self.cpus, 0), running=self.running, most=most)


class Cluster:
    """One node on which sweeps run, and what each of them does when it is its time."""

    def __init__(self, cpus: int, sweeps: list[Sweep]) -> None:
        self.cpus, self.turn = cpus, 0
        self.sweeps = {f"d{number}": sweep for number, sweep in enumerate(sweeps)}

    @property
    def free(self) -> int:
        return self.cpus - sum(sweep.cpus * sweep.running for sweep in self.sweeps.values())

    def allowed(self, name: str, free: bool = False) -> int:
        claims = {other: sweep.claim(other) for other, sweep in self.sweeps.items()}
        nodes = [{"CPU": float(self.cpus)}]
        if free:
            claims = {other: replace(claim, running=0) for other, claim in claims.items()}
        return may_run(nodes, claims, name, self.turn)

    def settle(self) -> None:
        """Let everybody begin what it may, until nobody does anything any more."""
        moved = True
        while moved:
            moved = False
            for name, sweep in self.sweeps.items():
                if self.allowed(name) <= sweep.running:
                    continue
                moved = moved or bool(sweep.left) or not sweep.in_vain
                sweep.in_vain = not sweep.left
                if sweep.left:
                    sweep.left, sweep.running = sweep.left - 1, sweep.running + 1

    def nothing_is_idle(self) -> bool:
        """Whether nobody's next trial fits, or room is being made for a larger one, as far as its driver knows."""
        fits = any(sweep.left and sweep.cpus <= self.free for sweep in self.sweeps.values())
        return not fits or any(
            not sweep.in_vain and sweep.cpus > self.free and sweep.running < self.allowed(name, free=True)
            for name, sweep in self.sweeps.items()
        )


EVENTS = st.lists(st.tuples(st.sampled_from(("end", "die", "turn")), st.integers(0, 9)), max_size=12)
SWEEPS = st.lists(st.builds(Sweep, st.integers(1, 3), st.integers(0, 6)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 8), SWEEPS, EVENTS)
def test_sweeps_that_come_to_an_end_or_die_block_nobody(
    cpus: int, sweeps: list[Sweep], events: list[tuple[str, int]]
) -> None:
    cluster = Cluster(cpus, sweeps)
    cluster.settle()
    rest = [("end", number) for number in range(4 * 6)]  # every trial that there is
    for event, number in [*events, *rest]:
        names = sorted(name for name, sweep in cluster.sweeps.items() if event != "end" or sweep.running)
        if event == "turn":
            cluster.turn += 1
        elif names and event == "die":
            del cluster.sweeps[names[number % len(names)]]
        elif names:
            cluster.sweeps[names[number % len(names)]].running -= 1
        cluster.settle()
        assert cluster.free >= 0
        assert cluster.nothing_is_idle()
    assert all(sweep.left == 0 and sweep.running == 0 for sweep in cluster.sweeps.values())
