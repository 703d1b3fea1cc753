"""``Coupled`` around a user's own loop: alone, and in real processes that meet by torch.distributed (gloo)."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.unit.quadratics import START, Quadratic, noise_table, spread_starts, train
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.optim import AdamW

from deeprelax import Coupled
from deeprelax.coupling import METHODS, Coupling, Parle
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ConfigError, ExchangeError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.collective import CollectiveExchange
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica, Steps

STEPS, PERIOD = 26, 4  # the last period is incomplete
TOGETHER = [name for name, method in METHODS.items() if not method.single_replica]
CODED = ["sgd-topk(0.3)", "parle-int8", "diloco-int4", "easgd-bf16"]


def coupling_of(name: str, replicas: int) -> Coupling:
    name, _, codec = name.partition("-")
    fields: dict[str, Any] = {} if name == "sgd" else {"period": PERIOD}
    fields["codec"] = codec or "float32"
    if name == "rsgd":
        fields["rho"] = "auto(1)"  # soft enough that the measured stiffness is not held at its bound
    return METHODS[name](replicas=replicas, lr=0.05, **fields)


def flat(model: Quadratic) -> Tensor:
    return torch.cat([model.matrix.detach().flatten(), model.bias.detach()]).clone()


def loop_of_a_user(model: Quadratic, coupled: Coupled, noise: Tensor) -> Tensor:
    """Train with the wrapper in a loop of one's own; return the weights after each step and after the block."""
    seen = []
    with coupled as replica:
        for one in noise:
            replica.zero_grad()
            loss = model(one)
            loss.backward()
            replica.step(loss)
            seen.append(flat(model))
    return torch.stack([*seen, flat(model)])


def expected(name: str, replicas: int) -> Tensor:
    """Return the same from the replicas of one process, shape (R, K + 1, P)."""
    coupling = coupling_of(name, replicas)
    run = train(coupling, noise_table(replicas, STEPS), starts=spread_starts(replicas), finish=True)
    centers = torch.stack([seen[-1] for seen in run.centers_seen])[:, None]
    return torch.cat([run.points, centers], 1)


# In processes.


def process(rank: int, folder: Path) -> None:
    """Be one of three processes: first two of them, then all train every coupling; leave the weights in files."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    for replicas in (2, 3):
        if rank < replicas:
            dist.init_process_group(
                "gloo", init_method=f"file://{folder}/group-{replicas}", rank=rank, world_size=replicas,
                timeout=timedelta(seconds=60),
            )  # fmt: skip
            torch.save(train_in_group(rank, replicas), folder / f"{replicas}-{rank}.pt")
            dist.destroy_process_group()


def train_in_group(rank: int, replicas: int) -> dict[str, Tensor | str | int]:
    results: dict[str, Tensor | str | int] = {}
    for name in TOGETHER + CODED:
        model = Quadratic(spread_starts(replicas)[rank])
        exchange = CollectiveExchange()
        coupled = Coupled(
            model, coupling_of(name, replicas), total_steps=STEPS, steps_per_pass=STEPS // 2,
            exchange=exchange if name == "parle" else None,
        )  # fmt: skip
        results[name] = loop_of_a_user(model, coupled, noise_table(replicas, STEPS)[rank])
        if name == "parle":
            results["bytes"] = exchange.meter.bytes_sent
            results["received"] = exchange.meter.bytes_received
            results["size"] = coupled.replica.weights[0].fast.numel()
    try:
        Coupled(Quadratic(), Parle(replicas=replicas + 1, lr=0.1))
    except ConfigError as error:
        results["error"] = str(error)
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("processes")
    spawn(process, args=(folder,), nprocs=3)
    return {
        replicas: [torch.load(folder / f"{replicas}-{rank}.pt", weights_only=True) for rank in range(replicas)]
        for replicas in (2, 3)
    }


Results = dict[int, list[dict[str, Tensor]]]


@pytest.mark.parametrize("name", TOGETHER + CODED)
def test_two_processes_train_as_two_replicas_of_one_process_bit_for_bit(name: str, results: Results) -> None:
    there = torch.stack([one[name] for one in results[2]])
    assert torch.equal(there, expected(name, 2))


@pytest.mark.parametrize("name", TOGETHER)
def test_three_processes_train_as_three_replicas_of_one_process(name: str, results: Results) -> None:
    there = torch.stack([one[name] for one in results[3]])
    # All-reduce sums in its own order.
    torch.testing.assert_close(there, expected(name, 3), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", TOGETHER)
def test_after_the_block_every_process_holds_the_same_center(name: str, results: Results) -> None:
    ends = [one[name][-1] for one in results[3]]
    assert all(torch.equal(end, ends[0]) for end in ends)
    if name != "sgd":
        moved = [one[name][-2] for one in results[3]]
        assert not torch.equal(moved[0], moved[1]), "before it the replicas were apart"


@pytest.mark.parametrize("replicas", [2, 3])
def test_a_group_of_another_size_is_refused_with_the_command(replicas: int, results: Results) -> None:
    for one in results[replicas]:
        message = str(one["error"])
        assert message.startswith(f"Invalid replicas={replicas + 1}. Must be {replicas}, the processes of the group")
        assert f"torchrun --nproc-per-node {replicas + 1}" in message


def test_the_meter_of_the_collective_counts_each_message(results: Results) -> None:
    messages = 1 + STEPS // PERIOD + 1  # joining, whole periods, the incomplete one
    for one in results[3]:
        assert int(one["bytes"]) == int(one["received"]) == messages * int(one["size"]) * 8


# Without a group.


@pytest.mark.parametrize("name", METHODS)
def test_alone_it_needs_no_group_and_trains_as_one_replica(name: str) -> None:
    coupling = coupling_of(name, 1)
    model = Quadratic()
    noise = noise_table(1, STEPS)
    coupled = Coupled(model, coupling, total_steps=STEPS, steps_per_pass=STEPS // 2)
    run = train(coupling, noise, finish=True)
    there = loop_of_a_user(model, coupled, noise[0])
    assert torch.equal(there[:-1], run.points[0])
    assert torch.equal(there[-1], run.centers[-1])


def test_several_replicas_without_a_group_are_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError) as caught:
        Coupled(Quadratic(), Parle(replicas=3, lr=0.1))
    assert "Invalid replicas=3. Must be 1" in str(caught.value)
    assert "torchrun --nproc-per-node 3 after init_process_group, or give exchange=" in str(caught.value)


def test_the_collective_without_a_group_says_what_to_call() -> None:
    with pytest.raises(ExchangeError, match=r"Call torch\.distributed\.init_process_group\(\) first, under torchrun"):
        CollectiveExchange()


def test_an_exception_in_the_block_exchanges_nothing_and_leaves_the_weights() -> None:
    model = Quadratic()
    coupled = Coupled(model, coupling_of("parle", 1), total_steps=STEPS)
    left: list[Tensor] = []

    def fail_after_two_steps() -> None:
        with coupled as replica:
            for one in noise_table(1, 2)[0]:
                replica.zero_grad()
                model(one).backward()
                replica.step()
            left.append(flat(model))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_two_steps()
    assert torch.equal(flat(model), left[0])
    assert not torch.equal(left[0], START)
    assert coupled.replica.position.exchanges == 0


def test_gradients_may_be_dropped_by_the_users_optimizer() -> None:
    ends = []
    for drop in (True, False):
        model = Quadratic()
        optimizer = AdamW(model.parameters(), lr=0.02)
        coupled = Coupled(model, coupling_of("parle", 1).with_fields(lr=None), optimizer=optimizer, total_steps=STEPS)
        with coupled as replica:
            for one in noise_table(1, STEPS)[0]:
                if drop:
                    optimizer.zero_grad(set_to_none=True)
                else:
                    replica.zero_grad()
                model(one).backward()
                replica.step()
        ends.append(flat(model))
    assert torch.equal(ends[0], ends[1])


def test_a_spring_that_balances_itself_asks_for_the_loss() -> None:
    model = Quadratic()

    def train_without_saying_it() -> None:
        with Coupled(model, coupling_of("rsgd", 1), total_steps=STEPS, steps_per_pass=4) as replica:
            for one in noise_table(1, 8)[0]:
                replica.zero_grad()
                model(one).backward()
                replica.step()

    with pytest.raises(ConfigError, match=r"Missing loss\. A spring rho=auto\(\.\.\.\).*give step\(loss\)"):
        train_without_saying_it()


class Recorded(Exchange):
    """A user's own exchange: one more member of the group is always at the origin."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.rounds = Rounds()

    def exchange(self, message: Message) -> Reply:
        self.said.append(message)
        other = replace(message, vectors=tuple(torch.zeros_like(vector) for vector in message.vectors))
        return self.rounds.complete([message, other])


def test_an_exchange_may_be_given() -> None:
    model = Quadratic()
    exchange = Recorded()
    coupled = Coupled(
        model, coupling_of("local_sgd", 2), exchange=exchange, index=1, total_steps=STEPS, steps_per_pass=STEPS
    )
    there = loop_of_a_user(model, coupled, noise_table(1, PERIOD)[0])
    assert coupled.replica.index == 1
    assert [message.kind for message in exchange.said] == ["join", "center"]
    alone = train(coupling_of("local_sgd", 1), noise_table(1, STEPS)[:, :PERIOD])
    assert alone.points.shape[1] == PERIOD
    assert exchange.rounds.center is not None
    assert torch.equal(there[-1], exchange.rounds.center.vectors[0][used(coupled)])


def used(coupled: Coupled) -> Tensor:
    """Return a mask of the elements that are parameters and not padding."""
    marked = torch.ones_like(coupled.replica.weights[0].fast, dtype=torch.bool)
    marked[coupled.replica.weights[0]._padding] = False
    return marked


# In one process.


def test_a_meter_counts_what_would_cross_a_network() -> None:
    replicas = [Replica(Quadratic(), coupling_of("local_sgd", 3), index=a, total_steps=8) for a in range(3)]

    def loop(replica: Replica) -> Steps[None]:
        yield from replica.join()
        for one in noise_table(1, 8)[0]:
            replica.flat.zero_grad()
            replica.flat.model(one).backward()
            yield from replica.step()

    meters = [Meter() for _ in replicas]
    run_together([loop(replica) for replica in replicas], Rounds(), meters)
    size = replicas[0].weights[0].fast.numel()
    assert {(meter.bytes_sent, meter.bytes_received) for meter in meters} == {(3 * size * 8, 3 * size * 8)}


def test_replicas_at_different_points_of_the_run_are_refused() -> None:
    message = Message(kind="center", vectors=(START,), step=4, exchanges=0)
    with pytest.raises(ExchangeError, match="out of step"):
        Rounds().complete([message, replace(message, step=8)])
