"""Asynchronous EASGD: its equations, its order in one process, its clocks at a server, its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from tests.unit import recursions
from tests.unit.quadratics import close, noise_table, spread_starts, train
from tests.unit.test_server_rounds import Run, member, names
from tests.unit.toyruns import train as train_toy

from deeprelax import resume
from deeprelax.coupling import Eamsgd, Easgd
from deeprelax.coupling.message import CenterStep, Message
from deeprelax.errors import ConfigError, DivergedError
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.coordinator import Answer
from deeprelax.replica.checkpoint import newest
from deeprelax.replica.population import PopulationConfig

STEPS, REPLICAS = 24, 3


def drawn(exchange: int) -> list[int]:
    order = list(range(REPLICAS))
    Random(f"0/{exchange}").shuffle(order)
    return order


def one_after_another(_: int) -> list[int]:
    return list(range(REPLICAS))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("period", [1, 4])
def test_it_follows_its_equations_in_the_order_that_was_drawn(period: int, momentum: float) -> None:
    starts, noise = spread_starts(REPLICAS), noise_table(REPLICAS, STEPS)
    numbers: dict[str, Any] = {"period": period, "lr": 0.05, "momentum": momentum, "elasticity": 0.9}
    run = train(Eamsgd(replicas=REPLICAS, mode="async", **numbers), noise, starts=starts)
    points, centers = recursions.easgd_asynchronous(starts, noise, turns=drawn, **numbers)
    close(run.points, points)
    close(run.centers, centers)
    other, _ = recursions.easgd_asynchronous(starts, noise, turns=one_after_another, **numbers)
    assert float((run.points - other).abs().max()) > 1e-6, "the order matters"


def test_one_replica_alone_pulls_as_the_synchronous_one() -> None:
    starts, noise = spread_starts(1), noise_table(1, STEPS)
    numbers: dict[str, Any] = {"replicas": 1, "period": 4, "lr": 0.05}
    one, other = (train(Easgd(mode=mode, **numbers), noise, starts=starts) for mode in ("async", "sync"))
    close(one.points, other.points)
    close(one.centers, other.centers)


@pytest.mark.parametrize("fields", [{"codec": "int8"}, {"fragments": 2}, {"overlap": 3}])
@pytest.mark.parametrize("coupling", [Easgd, Eamsgd])
def test_who_pulls_alone_sends_all_weights_as_they_are_and_waits(coupling: type[Easgd], fields: dict[str, Any]) -> None:
    assert coupling(replicas=2, **fields).mode == "sync"
    with pytest.raises(ConfigError, match=f"Must be sync with {next(iter(fields))}"):
        coupling(replicas=2, mode="async", **fields)


def test_the_order_in_one_process_is_random_over_rounds_and_the_same_at_every_repetition() -> None:
    def staleness(seed: int) -> list[list[int]]:
        rounds = Rounds()
        rounds.seed = seed
        join = Message(kind="join", vectors=(torch.zeros(2),), step=0, exchanges=0)
        rounds.complete_all([join] * 4)
        pulls = [
            Message(kind="elastic", vectors=(torch.ones(2),), step=t, exchanges=t, center_steps=(CenterStep(lr=0.1),))
            for t in range(8)
        ]
        return [[reply.staleness for reply in rounds.complete_all([pull] * 4)] for pull in pulls]

    first = staleness(1)
    assert first == staleness(1) != staleness(2)
    assert first[0] == [0, 0, 0, 0]
    assert {count for row in first[1:] for count in row} > {2, 3, 4}
    assert all(sum(row) == 4 * 3 for row in first[1:]), "three others pull thrice, on average"


class Pulling(Run):
    """A coordinator whose members pull alone."""

    max_ahead = 2

    def pull(self, who: str, exchanges: int, value: float = 0.0) -> Answer | None:
        message = Message(
            kind="elastic",
            vectors=(torch.full((3,), value),),
            step=10 * exchanges,
            exchanges=exchanges,
            center_steps=(CenterStep(lr=0.5),),
            max_ahead=self.max_ahead,
        )
        return self.coordinator.hear(member(who), message)


def test_a_pull_is_answered_at_once_with_the_center_before_it() -> None:
    run = Pulling(2)
    run.start("0a", "1a")
    answer = run.pull("0a", 0, value=4.0)
    assert names(answer) == ["0a"]
    assert answer is not None
    assert (answer.reply.vectors[0][0].item(), answer.reply.exchanges, answer.reply.staleness) == (0.0, 1, 0)
    answer = run.pull("1a", 0, value=4.0)
    assert answer is not None
    assert (answer.reply.vectors[0][0].item(), answer.reply.exchanges) == (2.0, 1)
    answer = run.pull("0a", 1, value=3.0)
    assert answer is not None
    assert (answer.reply.vectors[0][0].item(), answer.reply.staleness) == (3.0, 1)


def test_who_is_too_far_ahead_waits_for_the_slowest() -> None:
    run = Pulling(2)
    run.start("0a", "1a")
    assert [names(run.pull("0a", t)) for t in range(3)] == [["0a"]] * 3
    assert run.pull("0a", 3) is None
    assert names(run.pull("1a", 0)) == ["1a"]
    assert names(run.coordinator.released()) == ["0a"]
    assert run.coordinator.released() is None


def end_of_lease(run: Pulling) -> None:
    run.wait(3.0, "0a")


def known_death(run: Pulling) -> None:
    run.coordinator.lose(1)


@pytest.mark.parametrize("vanish", [end_of_lease, known_death])
def test_who_waits_for_a_lost_one_goes_on(vanish: Callable[[Pulling], None]) -> None:
    run = Pulling(2)
    run.start("0a", "1a")
    for t in range(3):
        run.pull("0a", t)
    assert run.pull("0a", 3) is None
    vanish(run)
    assert names(run.coordinator.released()) == ["0a"]
    welcome = run.say("1b", "join", 0)
    assert welcome is not None
    assert welcome.reply.exchanges == 4, "a newcomer starts where the foremost is"
    assert names(run.pull("0a", 4)) == ["0a"]


def test_poison_is_refused_and_does_not_move_the_center() -> None:
    run = Pulling(2)
    run.start("0a", "1a")
    answer = run.pull("1a", 0, value=float("nan"))
    assert answer is not None
    assert (answer.to, [to.replica for to in answer.refused]) == ((), [1])
    assert run.events() == [("quarantined", 1)]
    kept = run.pull("0a", 0)
    assert kept is not None
    assert kept.reply.vectors[0].tolist() == [0.0] * 3
    with pytest.raises(DivergedError, match=r"replicas \[0\]"):
        run.pull("0a", 1, value=float("nan"))


def test_a_stop_lets_all_come_to_one_exchange() -> None:
    run = Pulling(2)
    run.start("0a", "1a")
    for t in range(2):
        run.pull("0a", t)
    run.coordinator.rounds.stop = True
    stops = [run.pull("1a", t) for t in range(3)]
    assert [answer is not None and answer.reply.stop for answer in stops] == [False, False, True]
    last = run.pull("0a", 2)
    assert last is not None
    assert last.reply.stop


def test_a_run_repeats_reports_staleness_and_resumes(tmp_path: Path) -> None:
    coupling = Easgd(replicas=3, period=2, mode="async")
    one, other = (train_toy(tmp_path / name, coupling, steps=40, checkpoint_every=1) for name in ("one", "other"))
    assert one.metrics == other.metrics
    stale = {float(str(row["replica/staleness"])) for row in one.telemetry()}
    assert 0 < max(stale) <= 4, "two others pull at most twice between two pulls of one"
    last = newest(one.run_dir / "checkpoints")
    assert last is not None
    (last.path / "manifest.json").unlink()
    again = resume(one.run_dir, show_progress=False)
    assert again.cost["gradient_evaluations_per_replica"] == 40


def test_a_population_needs_exchanges_that_all_share() -> None:
    with pytest.raises(ConfigError, match="Cannot adapt easgd with mode='async'"):
        PopulationConfig(knobs=("lr",)).refuse_impossible(Easgd(replicas=2, lr=0.1, mode="async"), 1000, 0.0)
