"""Exchanges that travel while the replicas go on: exact where they can be, by the equation elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit import interruptions, toyruns
from tests.unit.quadratics import Quadratic, close, gradient, noise_table, point_of, spread_starts, train
from torch import Tensor

from deeprelax import Coupled
from deeprelax.config import RunConfig
from deeprelax.coupling import METHODS, Coupling, Diloco, EntropySgd, LocalSgd, Parle, Sgd
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ConfigError, ExchangeError
from deeprelax.exchange.base import Exchange, drive
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.local import restored_rounds
from deeprelax.replica.checkpoint import newest
from deeprelax.replica.population import PopulationConfig
from deeprelax.replica.replica import Replica, Steps

REPLICAS, STEPS, PERIOD = 3, 26, 5
NOISE = noise_table(REPLICAS, STEPS)
STARTS = spread_starts(REPLICAS)


def coupling_of(name: str, **fields: Any) -> Coupling:
    return METHODS[name](**{"replicas": REPLICAS, "lr": 0.05, "period": PERIOD, **fields})


# Methods that lose nothing.


@pytest.mark.parametrize("overlap", [1, 3, 4])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("parle", {}),
        ("parle", {"momentum_policy": "reset", "outer_momentum": 0.5, "outer_lr": 0.5}),
        ("parle", {"gamma": "exp(10,1,exchanges=4)", "codec": "int8"}),
        ("easgd", {}),
        ("eamsgd", {"codec": "int4"}),
    ],
    ids=str,
)
def test_overlap_costs_parle_and_easgd_nothing_bit_for_bit(name: str, fields: dict[str, Any], overlap: int) -> None:
    waiting = train(coupling_of(name, **fields), NOISE, starts=STARTS, finish=True)
    overlapped = train(coupling_of(name, overlap=overlap, **fields), NOISE, starts=STARTS, finish=True)
    assert torch.equal(overlapped.centers, waiting.centers)
    assert torch.equal(overlapped.points[:, -1], waiting.points[:, -1])
    assert overlapped.rounds.exchanges == waiting.rounds.exchanges == 6


# Methods that follow the equation.


def overlapped_averaging(overlap: int, center_of: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the weights of plain SGD replicas after each step (R, K, P) and the centers, written as a recursion.

    Args:
        overlap: steps between a message and its reply.
        center_of: returns the center from the one before and the mean.
    """
    points, center = STARTS.clone(), STARTS.mean(0)
    left, news = points.clone(), center
    seen, centers = [], []
    for k in range(STEPS):
        points = points - 0.05 * torch.stack([gradient(y, NOISE[a, k]) for a, y in enumerate(points)])
        if (k + 1) % PERIOD == overlap % PERIOD and k + 1 > overlap:
            points = news + (points - left)
            center = news
            centers.append(center)
        if (k + 1) % PERIOD == 0 and k + 1 < STEPS:
            left, news = points.clone(), center_of(center, points.mean(0))
        seen.append(points)
    return torch.stack(seen, 1), centers


@pytest.mark.parametrize("overlap", [1, 2, 4])
def test_local_sgd_keeps_the_steps_made_meanwhile_on_top_of_the_mean(overlap: int) -> None:
    expected, centers = overlapped_averaging(overlap, lambda _, mean: mean)
    run = train(coupling_of("local_sgd", momentum=0, overlap=overlap), NOISE, starts=STARTS)
    steps = slice(0, STEPS if overlap == 1 else STEPS - 1)  # what is on its way at the last step lands there
    close(run.points[:, steps], expected[:, steps])
    close(run.centers[: len(centers)], torch.stack(centers[: len(run.centers)]))


@pytest.mark.parametrize("overlap", [1, 3])
def test_diloco_makes_its_outer_step_with_momentum_from_what_left(overlap: int) -> None:
    velocity = torch.zeros(8, dtype=torch.float64)

    def outer(center: Tensor, mean: Tensor) -> Tensor:
        velocity.mul_(0.9).add_(center - mean)
        return center - 0.3 * (center - mean + 0.9 * velocity)

    expected, centers = overlapped_averaging(overlap, outer)
    coupling = coupling_of("diloco", momentum=0, outer_lr=0.3, overlap=overlap)
    run = train(coupling, NOISE[:, : STEPS - 1], starts=STARTS, planned_steps=STEPS)
    close(run.points, expected[:, : STEPS - 1])
    close(run.centers, torch.stack(centers[: len(run.centers)]))


def test_the_spring_of_elastic_sgd_pulls_to_the_center_before_while_the_next_travels() -> None:
    waiting, overlapped = (
        train(coupling_of("elastic_sgd", rho=1.0, overlap=overlap), NOISE, starts=STARTS) for overlap in (0, 3)
    )
    assert torch.equal(waiting.points[:, :PERIOD], overlapped.points[:, :PERIOD])
    assert not torch.equal(waiting.points[:, PERIOD], overlapped.points[:, PERIOD])
    assert torch.equal(waiting.centers[0], overlapped.centers[0])


@pytest.mark.parametrize("name", ["local_sgd", "diloco", "elastic_sgd", "rsgd"])
def test_overlapped_runs_end_near_those_that_wait(name: str) -> None:
    noise = noise_table(REPLICAS, 200, scale=0.05)
    fields = {"outer_momentum": 0.5} if name == "diloco" else {}
    waiting, overlapped = (
        train(coupling_of(name, overlap=overlap, **fields), noise, starts=STARTS, finish=True) for overlap in (0, 3)
    )
    moved = float((waiting.centers[0] - waiting.centers[-1]).norm())
    assert 0 < float((overlapped.centers[-1] - waiting.centers[-1]).norm()) < 0.1 * moved
    for seen in overlapped.centers_seen[1:]:
        assert all(torch.equal(one, other) for one, other in zip(seen, overlapped.centers_seen[0], strict=True))


# The end of a run.


@pytest.mark.parametrize("name", ["local_sgd", "parle", "easgd"])
@pytest.mark.parametrize("steps", [PERIOD, PERIOD + 1, 2 * PERIOD - 1, 2 * PERIOD])
def test_nothing_is_on_its_way_when_a_run_ends(name: str, steps: int) -> None:
    coupling = coupling_of(name, overlap=3)
    run = train(coupling, NOISE[:, :steps], starts=STARTS, finish=True)
    assert all(replica._flight is None for replica in run.replicas)
    centers = [point_of(replica, replica.center()[0]) for replica in run.replicas]
    assert run.rounds.exchanges == len(run.centers) == -(-steps // PERIOD)
    assert all(torch.equal(center, run.centers[-1]) for center in centers)


class _Alone(Exchange):
    def __init__(self) -> None:
        self.rounds = Rounds()

    def exchange(self, message: Message) -> Reply:
        return self.rounds.complete([message])


def test_a_loop_that_does_not_know_its_length_collects_at_its_end() -> None:
    model, exchange = Quadratic(), _Alone()
    with Coupled(model, LocalSgd(replicas=1, lr=0.1, period=4, overlap=2), exchange=exchange) as replica:
        for one in noise_table(1, 5)[0]:
            replica.zero_grad()
            model(one).backward()
            replica.step()
    assert exchange.rounds.exchanges == 2
    assert exchange.rounds.center is not None
    assert torch.equal(replica.replica.weights[0].fast, exchange.rounds.center.vectors[0])


# In threads.


class Table:
    """Where the replicas of several threads meet: each waits for all."""

    def __init__(self) -> None:
        self.said: dict[int, Message] = {}
        self.rounds = Rounds()
        self.reply: Reply | None = None
        self.all_here = threading.Barrier(REPLICAS, action=self._complete, timeout=30)

    def _complete(self) -> None:
        self.reply = self.rounds.complete([self.said[a] for a in range(REPLICAS)])


class Meeting(Exchange):
    """One replica's seat at the table."""

    def __init__(self, index: int, table: Table) -> None:
        self.index, self.table = index, table

    def exchange(self, message: Message) -> Reply:
        self.table.said[self.index] = message
        self.table.all_here.wait()
        assert self.table.reply is not None
        return self.table.reply


@pytest.mark.parametrize("codec", ["float32", "int8"])
@pytest.mark.parametrize("name", ["diloco", "parle"])
def test_a_reply_is_taken_in_at_the_same_step_however_long_it_travels(name: str, codec: str) -> None:
    coupling = coupling_of(name, overlap=2, codec=codec)
    expected = train(coupling, NOISE, starts=STARTS, finish=True)
    table = Table()
    replicas = [
        Replica(Quadratic(start), coupling, index=a, total_steps=STEPS, steps_per_pass=STEPS // 2)
        for a, start in enumerate(STARTS)
    ]

    def loop(replica: Replica) -> Steps[None]:
        yield from replica.join()
        for one in NOISE[replica.index]:
            replica.flat.zero_grad()
            loss = replica.flat.model(one)
            loss.backward()
            yield from replica.step(loss)
        yield from replica.finish()

    def run(replica: Replica) -> None:
        drive(loop(replica), Meeting(replica.index, table))

    threads = [threading.Thread(target=run, args=(replica,)) for replica in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for here, there in zip(replicas, expected.replicas, strict=True):
        assert torch.equal(here.weights[0].fast, there.weights[0].fast)


class Held(_Alone):
    """An exchange that takes until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.waited_s: list[float] = []

    def exchange(self, message: Message) -> Reply:
        if message.kind == "center" and not self.let_go.wait(30):
            raise ExchangeError("the replica waits for a message that waits for it")
        return super().exchange(message)

    def waited(self, seconds: float) -> None:
        self.waited_s.append(seconds)


def test_a_replica_steps_while_its_message_travels_and_waits_only_where_it_needs_the_reply() -> None:
    exchange = Held()
    replica = Replica(Quadratic(), LocalSgd(replicas=1, lr=0.1, period=4, overlap=3), total_steps=100)
    drive(replica.join(), exchange)
    for step in range(1, 8):
        replica.weights[0].grad.fill_(1.0)
        if step == 7:
            assert exchange.rounds.exchanges == 0, "the message of step 4 is still on its way"
            exchange.let_go.set()
        drive(replica.step(), exchange)
    assert exchange.rounds.exchanges == 1
    assert len(exchange.waited_s) == 2, "to join, and for the reply; not for the message"


def test_an_error_on_the_way_is_raised_where_the_reply_is_needed() -> None:
    class Broken(_Alone):
        def exchange(self, message: Message) -> Reply:
            if message.kind == "center":
                raise ExchangeError("the server is gone")
            return super().exchange(message)

    exchange = Broken()
    replica = Replica(Quadratic(), LocalSgd(replicas=1, lr=0.1, period=2, overlap=1), total_steps=100)
    drive(replica.join(), exchange)
    for _ in range(2):
        drive(replica.step(), exchange)
    with pytest.raises(ExchangeError, match="the server is gone"):
        drive(replica.step(), exchange)


def test_a_replica_whose_round_went_on_without_it_takes_the_center_when_it_lands() -> None:
    replica = Replica(Quadratic(), LocalSgd(replicas=2, lr=0.1, period=2, overlap=1), total_steps=100)
    size = replica.weights[0].fast.numel()
    answers: Sequence[Reply] = [
        Reply(vectors=(torch.zeros(size, dtype=torch.float64),), step=0, exchanges=0),
        Reply(vectors=(), step=2, exchanges=0),
        Reply(vectors=(torch.full((size,), 3.0, dtype=torch.float64),), step=8, exchanges=4),
    ]
    replies = iter(answers)

    class Told(Exchange):
        def exchange(self, message: Message) -> Reply:
            raise AssertionError(message)

        def answer(self, message: Message) -> Reply:  # noqa: ARG002 - whatever is said
            return next(replies)

    drive(replica.join(), Told())
    for _ in range(3):
        replica.weights[0].grad.fill_(1.0)
        drive(replica.step(), Told())
    assert (replica.position.step, replica.position.exchanges, replica.elapsed) == (8, 4, 0)
    assert torch.equal(replica.weights[0].fast, torch.full((size,), 3.0, dtype=torch.float64))
    assert torch.equal(replica.center()[0], replica.weights[0].fast)


# Resuming.


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("local_sgd", {"codec": "int8"}),
        ("diloco", {}),
        ("parle", {"batchnorm": "average"}),
        ("easgd", {}),
        ("elastic_sgd", {"period": 5, "codec": "bf16"}),
    ],
    ids=str,
)
def test_an_overlapped_run_resumes_bit_for_bit(method: str, fields: dict[str, Any], tmp_path: Path) -> None:
    settings = interruptions.coupling_of(method, overlap=2, **fields)
    whole = interruptions.train(tmp_path / "whole", **settings)
    interruptions.train_interrupted(tmp_path / "parts", **settings)
    interruptions.assert_same_run(interruptions.continued(tmp_path / "parts"), whole)


def test_a_checkpoint_knows_that_its_center_is_older_than_its_replicas(tmp_path: Path) -> None:
    coupling = LocalSgd(replicas=2, period=5, overlap=2)
    toyruns.train(tmp_path, coupling, steps=13, checkpoint_every=0.1, keep_checkpoints=9)
    found = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert found == [f"step-{step:08d}" for step in (7, 12, 13)]
    for name in found[1:]:
        (tmp_path / "checkpoints" / name / "manifest.json").unlink()
    saved = newest(tmp_path / "checkpoints")
    assert saved is not None
    assert (saved.step, saved.exchange_step, saved.exchanges) == (7, 5, 1)
    assert restored_rounds(tmp_path / "checkpoints").step == 5, "where a newcomer would begin its period"


def test_replicas_computed_in_one_call_overlap_too(tmp_path: Path) -> None:
    coupling = LocalSgd(replicas=3, period=5, overlap=2)
    alone, together = (
        toyruns.train(tmp_path / vectorize, coupling, {}, vectorize=vectorize) for vectorize in ("never", "always")
    )
    assert toyruns.distance(alone, together) < 1e-5


# Refused.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LocalSgd(period=5, overlap=5), "Must be < 5, the shortest"),
        (lambda: LocalSgd(period="lin(2,9)", overlap=2), "Must be < 2, the shortest"),
        (lambda: METHODS["elastic_sgd"](overlap=1), "Must be < 1, the shortest"),
        (lambda: METHODS["lsgd"](overlap=1), "Must be 0: a replica of lsgd goes on from its group or leader"),
        (lambda: Sgd(replicas=2, overlap=1), "cannot step before it has the mean gradient"),
        (lambda: EntropySgd(overlap=1), "entropy_sgd has one replica"),
        (lambda: Parle(overlap=3, consensus="averaged"), "the outer step of averaged needs the mean"),
        (lambda: Diloco(overlap=-1), "overlap=-1"),
    ],
)
def test_what_cannot_overlap_is_refused_with_the_reason(make: Callable[[], Coupling], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)


def test_a_population_decides_on_time_or_not_at_all() -> None:
    with pytest.raises(ConfigError, match="Cannot adapt with overlap"):
        PopulationConfig().refuse_impossible(Parle(overlap=2), steps=10**4)
    assert RunConfig(trainable="digits", coupling={"overlap": 2}).make_coupling().overlap == 2
