"""Replicas of one run that adapt their settings: decisions, bounds, newcomers, resuming, transports."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.unit.interruptions import assert_same_run, checkpoints_of, continued, coupling_of, numbers, train_interrupted
from tests.unit.interruptions import train as train_everything
from tests.unit.toyruns import train, training

from deeprelax.coupling import Coupling, Easgd, ElasticSgd, LocalSgd, Parle
from deeprelax.coupling.message import Message, Reply
from deeprelax.coupling.stability import nesterov_limit
from deeprelax.errors import UnstableError
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.coordinator import Answer, Coordinator, Member, Rules
from deeprelax.execution.result import RunResult
from deeprelax.execution.store import RunStore
from deeprelax.replica.adaptation import Adaptation
from deeprelax.replica.loop import Event, Training
from deeprelax.replica.population import PopulationConfig, Standing, evolve, first_times, generator_of
from deeprelax.schedules import Position

ALL = {"knobs": ("lr", "gamma", "rho"), "every": 2, "spread": 3.0}
Row = dict[str, Any]


def decisions(result: RunResult) -> list[Row]:
    return RunStore(result.run_dir).rows("adapted")


def at(rows: Sequence[Row], step: int) -> dict[int, Row]:
    return {row["replica"]: row for row in rows if row["step"] == step}


def test_every_decision_of_a_run_is_that_of_the_rule(tmp_path: Path) -> None:
    coupling = Parle(replicas=4, period=5, lr="cos(0.1,0)", gamma=50.0, rho="exp(100,50)")
    rows = decisions(train(tmp_path / "run", coupling, steps=60, population=ALL))
    config, knobs = PopulationConfig(**ALL), ("lr", "gamma", "rho")
    steps = sorted({row["step"] for row in rows})
    assert steps == [0, 10, 20, 30, 40, 50], "the exchange at the end decides nothing"
    held = {a: tuple(row["times"][knob] for knob in knobs) for a, row in at(rows, 0).items()}
    assert held == {a: first_times(config, 3, a) for a in range(4)}
    for step in steps[1:]:
        now = at(rows, step)
        moves = evolve([Standing(a, now[a]["loss"], held[a]) for a in held], config, generator_of(3, step // 5))
        held = {a: tuple(row["times"][knob] for knob in knobs) for a, row in now.items()}
        assert held == {a: move.times for a, move in moves.items()}
        assert [now[a]["source"] for a in range(4)] == [moves[a].source for a in range(4)]
    assert len({row["source"] for row in rows if row["source"] != row["replica"]}) > 1


def test_the_loss_judged_is_the_mean_since_the_last_decision(tmp_path: Path) -> None:
    result = train(tmp_path / "run", LocalSgd(replicas=2, period=30), steps=90, population={"every": 1})
    losses = {(row["replica"], row["step"]): row["replica/loss"] for row in result.telemetry()}
    judged = [row for row in decisions(result) if row["step"]]
    assert len(judged) == 4
    for row in judged:
        assert row["loss"] == pytest.approx(losses[row["replica"], row["step"]], rel=1e-12)


def test_the_loss_on_the_holdout_is_that_of_the_replicas_weights(tmp_path: Path) -> None:
    population = {"every": 1, "judge": "holdout"}
    still = LocalSgd(replicas=2, period=4, lr=0.0)
    result = train(tmp_path / "still", still, steps=20, holdout=0.25, population=population)
    judged = [row["loss"] for row in decisions(result) if row["step"]]
    assert judged == [result.metrics["center/loss"]] * 8, "weights that never move are the center"

    moving = train(tmp_path / "moving", LocalSgd(replicas=2, period=4), steps=20, holdout=0.25, population=population)
    judged = [row["loss"] for row in decisions(moving) if row["step"]]
    assert len(set(judged)) == 8, "each replica is judged by its own weights"


def test_telemetry_shows_the_values_applied(tmp_path: Path) -> None:
    coupling = Parle(replicas=3, period=25, lr="cos(0.1,0)", gamma="exp(100,5)", rho=20.0)
    result = train(tmp_path / "run", coupling, steps=120, population=ALL | {"every": 1})
    rows, seen = decisions(result), set()
    for shown in result.telemetry():
        step = int(str(shown["step"]))
        times = at(rows, min(step, 100))[int(str(shown["replica"]))]["times"]
        here = Position(step=step, exchanges=step // 25, steps_per_pass=12, total_steps=120)
        for knob, schedule in coupling.schedules().items():
            expected = schedule.scaled(times.get(knob, 1.0)).at(here)
            assert shown[f"coupling/{knob}"] == expected
        seen.add(shown["coupling/rho"])
    assert len(seen) >= 3


def test_without_differences_the_run_is_the_plain_one(tmp_path: Path) -> None:
    coupling = Parle(replicas=3, period=5)
    plain = train(tmp_path / "plain", coupling, steps=60)
    adapted = train(tmp_path / "adapted", coupling, steps=60, population=ALL | {"spread": 1.0, "perturbation": 1.0})
    assert adapted.center_path.read_bytes() == plain.center_path.read_bytes()
    assert numbers(adapted.telemetry()) == numbers(plain.telemetry())
    assert not (plain.run_dir / "schedule.json").exists()


# The better settings are found.


@pytest.mark.parametrize("seed", range(3))
def test_a_population_finds_the_learning_rate_that_is_better(seed: int, tmp_path: Path) -> None:
    coupling = ElasticSgd(replicas=4, period=3, lr=0.001, momentum=0.0, rho=0.1)
    run: dict[str, Any] = {"steps": 180, "seed": seed, "evaluate_every": 100, "checkpoint_every": 0}
    plain = train(tmp_path / "plain", coupling, **run)
    population = {"spread": 1.0, "every": 2, "perturbation": 2.0}
    adapted = train(tmp_path / "adapted", coupling, population=population, **run)
    rates = [max(row["times"]["lr"] for row in at(decisions(adapted), step).values()) for step in range(0, 180, 6)]
    assert sum(later >= earlier for earlier, later in pairwise(rates)) >= 0.8 * len(rates)
    assert rates[-1] > 5
    assert adapted.metrics["center/loss"] < 0.7 * plain.metrics["center/loss"]


# No spring passes its bound.


def part_of(coupling: Coupling, step: int = 0, **fields: Any) -> tuple[Adaptation, Position]:
    here = Position(step=step, steps_per_pass=10, total_steps=100)
    config = PopulationConfig(**{"knobs": ("lr", "gamma", "rho"), "spread": 1.0, **fields})
    return Adaptation(config, coupling, index=0, seed=0, start=here), here


@pytest.mark.parametrize("times", [(3.0, 1.0, 1.0), (1.0, 0.1, 1.0), (1.0, 4.0, 0.01), (9.0, 0.2, 0.2)])
def test_settings_that_would_be_unstable_are_held_back(times: tuple[float, ...]) -> None:
    coupling = Parle(replicas=3, lr=0.1, gamma="exp(1,0.15)", rho=4.0)
    held, here = part_of(coupling)
    adapted = held._settle(times, here, source=1)
    assert held.take_news()[-1]["clipped"]
    kept = held.state()["times"]
    assert isinstance(kept, list)
    adapted.check_stable(here.ahead(25.0, 200))
    for now, asked, loosens in zip(kept, times, (times[0] < 1, times[1] > 1, times[2] > 1), strict=True):
        assert now == asked if loosens else min(asked, 1.0) <= now <= max(asked, 1.0)
    assert 0.1 * kept[0] / (0.15 * kept[1]) < nesterov_limit(0.9)


def test_only_what_is_left_of_the_run_must_be_stable() -> None:
    coupling = Parle(replicas=3, lr="lin(0.1,0)", gamma=0.2)
    for step, clipped in ((0, True), (90, False)):
        held, here = part_of(coupling, step)
        held._settle((4.0, 1.0, 1.0), here, source=1)
        assert held.take_news()[-1]["clipped"] == clipped


def test_a_run_that_was_forced_past_a_bound_is_left_alone() -> None:
    coupling = Parle(replicas=3, lr=0.1, gamma=0.05)
    held, here = part_of(coupling)
    adapted = held._settle((2.0, 0.5, 1.0), here, source=1)
    assert not held.take_news()[-1]["clipped"]
    with pytest.raises(UnstableError):
        adapted.check_stable([here])


def test_what_was_held_back_is_counted(tmp_path: Path) -> None:
    coupling = Parle(replicas=3, period=5, lr=0.1, gamma=0.1)
    result = train(tmp_path / "run", coupling, steps=60, population=ALL | {"spread": 30.0})
    learned = json.loads((result.run_dir / "schedule.json").read_text())
    assert learned["clipped"] == sum(row["clipped"] for row in decisions(result)) > 0


# Resuming.


@pytest.mark.parametrize(("method", "judge"), [("parle", "training"), ("easgd", "training"), ("parle", "holdout")])
def test_a_population_resumes_bit_for_bit(method: str, judge: str, tmp_path: Path) -> None:
    chosen = coupling_of(method)
    knobs = ["lr", *({"gamma", "rho"} & chosen["coupling"].schedules().keys())]
    settings = chosen | {"population": ALL | {"knobs": knobs, "every": 3, "judge": judge}, "holdout": 0.2}
    whole = train_everything(tmp_path / "whole", **settings)
    train_interrupted(tmp_path / "parts", after=70, **settings)
    saved = json.loads((checkpoints_of(tmp_path / "parts")[-1] / "replica-001.json").read_text())
    assert 0 < saved["adaptation"]["since"][1] < saved["step"], "it was saved between two decisions"
    parts = continued(tmp_path / "parts")
    assert_same_run(parts, whole)
    assert numbers(decisions(parts)) == numbers(decisions(whole))
    assert (parts.run_dir / "schedule.json").read_bytes() == (whole.run_dir / "schedule.json").read_bytes()


# Through the parameter server's rounds.

Loop = Generator[Message, Reply, None]


class Server:
    """The server's coordinator and the loops of the replicas it answers, without a transport."""

    def __init__(self, replicas: int) -> None:
        self.coordinator = Coordinator(Rules(replicas=replicas), Rounds())
        self.loops: dict[Member, Loop] = {}
        self.saying: dict[Member, Message] = {}

    def start(self, member: Member, loop: Loop) -> None:
        self.loops[member] = loop
        self.saying[member] = next(loop)

    def kill(self, member: Member) -> None:
        del self.loops[member], self.saying[member]
        self.deliver(self.coordinator.lose(member.replica))

    def run(self, rounds: int = 10**9) -> None:
        """Let the replicas speak, the last first, until they have ended or some rounds have closed."""
        goal = self.coordinator.rounds.exchanges + rounds
        while self.saying and self.coordinator.rounds.exchanges < goal:
            member = max(self.saying)
            self.deliver(self.coordinator.hear(member, self.saying.pop(member)))

    def deliver(self, answer: Answer | None) -> None:
        for member in answer.to if answer is not None else ():
            assert answer is not None
            try:
                self.saying[member] = self.loops[member].send(answer.reply)
            except StopIteration:
                self.deliver(self.coordinator.leave(member))


@pytest.mark.parametrize("coupling", [Parle(replicas=3, period=4), Easgd(replicas=3, period=4)], ids=["parle", "easgd"])
def test_in_one_process_and_through_the_servers_rounds_the_numbers_are_the_same(
    coupling: Coupling, tmp_path: Path
) -> None:
    config = PopulationConfig(knobs=("lr",), every=2)
    events: list[list[Event]] = [[], []]
    parts = [
        [
            training(coupling.with_fields(lr=0.1), tmp_path / str(i), index=a, events=seen, steps=40, population=config)
            for a in range(3)
        ]
        for i, seen in enumerate(events)
    ]
    run_together([part.run() for part in parts[0]], Rounds())
    server = Server(3)
    for part in parts[1]:
        server.start(Member(part.index, "a"), part.run())
    server.run()
    here, there = (
        sorted((dict(row) for row in seen), key=lambda row: (row["step"], row["event"], row["replica"]))
        for seen in events
    )
    assert here == there
    assert sum(row["event"] == "adapted" for row in here) == 3 * 5


def test_a_replaced_replica_joins_with_the_runs_schedules_and_then_takes_the_bests(tmp_path: Path) -> None:
    config = PopulationConfig(knobs=("lr",), every=2, spread=3.0)
    coupling = LocalSgd(replicas=3, period=5, lr=0.1)
    server = Server(3)
    events: list[Event] = []

    def start(index: int, life: str) -> Training:
        one = training(coupling, tmp_path / life, index=index, events=events, steps=60, population=config)
        server.start(Member(index, life), one.run())
        return one

    for a in range(3):
        start(a, "a")
    server.run(rounds=4)
    server.kill(Member(2, "a"))
    server.run(rounds=1)
    newcomer, life = start(2, "b"), Member(2, "b")
    assert newcomer.replica.coupling.lr != coupling.lr
    server.deliver(server.coordinator.hear(life, server.saying.pop(life)))
    assert newcomer.replica.coupling == coupling
    server.run()
    rows: list[Row] = [row for row in events if row["event"] == "adapted"]
    (joined,) = (row for row in rows if row["step"] not in range(0, 60, 10))
    assert (joined["replica"], joined["times"], joined["source"], joined["loss"]) == (2, {"lr": 1.0}, 2, None)
    after = at(rows, 30)
    best = min((0, 1), key=lambda a: float(after[a]["loss"]))
    assert after[2]["loss"] is None
    assert after[2]["source"] == best
    factor = after[2]["times"]["lr"] / after[best]["times"]["lr"]
    assert math.isclose(factor, 1.2, rel_tol=1e-5) or math.isclose(factor, 1 / 1.2, rel_tol=1e-5)
    assert at(rows, 40)[2]["loss"] is not None
