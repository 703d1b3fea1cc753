"""A coded exchange: what the replicas know, where it converges, what it costs, and how it goes on after a break."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit import interruptions
from tests.unit.quadratics import MINIMUM, noise_table, spread_starts, train
from torch import Tensor, nn

from deeprelax.coupling import METHODS, Coupling, LocalSgd
from deeprelax.coupling.codec import Codec, Int8, read_codec
from deeprelax.coupling.message import CenterStep, Kind, Message, Reply
from deeprelax.errors import ConfigError
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.line import Line
from deeprelax.replica.replica import Replica

TOGETHER = [name for name, method in METHODS.items() if not method.single_replica and not method.whole]
CODECS = ["bf16", "int8", "int4", "topk(0.5)"]


def coupling_of(name: str, **fields: Any) -> Coupling:
    period = {} if name == "sgd" else {"period": 4}
    return METHODS[name](**{"replicas": 3, "lr": 0.05, **period, **fields})


def heard(replica: Replica) -> Tensor:
    """Return the center as the replica was told it last."""
    assert replica._line is not None
    return replica._line._known[0]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", TOGETHER)
def test_all_replicas_hear_one_center_near_that_of_float32(name: str, codec: str) -> None:
    if name == "rsgd" and codec == "topk(0.5)":
        codec = "topk(0.8)"  # its stiffness is measured from the spread
    noise, starts = noise_table(3, 40), spread_starts(3)
    plain = train(coupling_of(name), noise, starts=starts)
    coded = train(coupling_of(name, codec=codec), noise, starts=starts)
    for seen in coded.centers_seen[1:]:
        assert all(torch.equal(one, other) for one, other in zip(seen, coded.centers_seen[0], strict=True))
    gap = float((coded.centers[-1] - plain.centers[-1]).norm() / (plain.centers[0] - plain.centers[-1]).norm())
    assert 0 < gap < {"bf16": 0.02, "int8": 0.05, "int4": 0.3}.get(codec, 1.0)
    if coded.rounds.center is not None and coded.replicas[0].coupling.kind == "center":
        assert all(torch.equal(heard(one), coded.rounds.center.known[0]) for one in coded.replicas)


@pytest.mark.parametrize("codec", CODECS)
def test_one_replica_sends_nothing_and_codes_nothing(codec: str) -> None:
    plain, coded = (
        train(LocalSgd(replicas=1, lr=0.05, period=4, codec=one), noise_table(1, 20)) for one in ("float32", codec)
    )
    assert torch.equal(plain.points, coded.points)
    assert coded.replicas[0]._line is None


def test_float32_keeps_no_memory_and_touches_no_message() -> None:
    run = train(coupling_of("diloco"), noise_table(3, 8))
    assert run.replicas[0]._line is None
    assert run.rounds.center is not None
    assert run.rounds.center.state().keys() == {"center.0", "velocity.0"}


# Convergence.


class Bowl(nn.Module):
    """f(p) = |p - c|²/2 for two numbers in one block."""

    def __init__(self, minimum: Tensor) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(2))
        self.minimum = minimum

    def forward(self) -> Tensor:
        return (self.point - self.minimum).square().sum() / 2


@dataclass(frozen=True)
class Forgetful(Int8):
    """int8 without error feedback."""

    def say(self, vector: Tensor, unsaid: Tensor) -> Tensor:  # noqa: ARG002 - that is the point
        return self.encode(vector)


def where_it_ends(codec: Codec | None) -> Tensor:
    """Train two replicas that disagree widely on the first number and agree on the second, at .01; return the center.

    On the way to .01 a replica moves the second number by at most .001 in a period, which is below half a quantum of
    the block, .02: it is worth a message only after many periods.
    """
    coupling = LocalSgd(replicas=2, lr=0.1, momentum=0, period=1, codec=codec)
    minima = torch.tensor([[50.0, 0.01], [-50.0, 0.01]])
    replicas = [Replica(Bowl(minimum), coupling, index=a, total_steps=500) for a, minimum in enumerate(minima)]
    total = torch.zeros(2)

    def loop(replica: Replica) -> Generator[Message, Reply, None]:
        yield from replica.join()
        for step in range(500):
            replica.flat.zero_grad()
            replica.flat.model().backward()
            yield from replica.step()
            if step >= 200 and replica.index == 0:
                total.add_(replica.weights[0].fast[:2], alpha=1 / 300)

    run_together([loop(replica) for replica in replicas], Rounds())
    return total


def test_int8_with_error_feedback_reaches_the_minimum_and_without_it_does_not() -> None:
    exact = where_it_ends(None)
    assert exact[1].item() == pytest.approx(0.01, abs=1e-6)
    assert where_it_ends(Forgetful())[1].item() == 0.0, "it never says the second number"
    assert where_it_ends(Int8())[1].item() == pytest.approx(0.01, abs=3e-3)


@pytest.mark.parametrize(("name", "codec"), [("sgd", "int4"), ("diloco", "int8"), ("local_sgd", "topk(0.25)")])
def test_a_noiseless_quadratic_is_solved_as_exactly_as_with_float32(name: str, codec: str) -> None:
    fields = {"outer_lr": 0.5, "outer_momentum": 0.0} if name == "diloco" else {}
    coupling = coupling_of(name, codec=codec, lr=0.3, momentum=0, **fields)
    run = train(coupling, torch.zeros(3, 300, 8, dtype=torch.float64), starts=spread_starts(3))
    torch.testing.assert_close(run.centers[-1], MINIMUM, rtol=0, atol=1e-3)


# Bytes.


def trained(codec: str, name: str = "local_sgd") -> tuple[list[Meter], Rounds]:
    """Train for 30 exchanges; return what was counted by the replicas and by the center."""
    coupling = coupling_of(name, codec=codec, period=1)
    replicas = [Replica(nn.Linear(100, 30), coupling, index=a, total_steps=30) for a in range(3)]
    meters, rounds = [Meter() for _ in replicas], Rounds()

    def loop(replica: Replica) -> Generator[Message, Reply, None]:
        yield from replica.join()
        for step in range(30):
            replica.flat.zero_grad()
            replica.flat.model(torch.full((1, 100), float(step + replica.index))).sum().backward()
            yield from replica.step()

    run_together([loop(replica) for replica in replicas], rounds, meters)
    return meters, rounds


@pytest.mark.parametrize("name", ["local_sgd", "sgd"])
@pytest.mark.parametrize(("codec", "most"), [("bf16", 0.5), ("int8", 0.27), ("int4", 0.14), ("topk(0.01)", 0.02)])
def test_bytes_fall_in_both_directions_and_the_join_is_in_full(codec: str, most: float, name: str) -> None:
    (plain, *_), _ = trained("float32", name)
    (coded, *_), _ = trained(codec, name)
    join = plain.phases["join"]
    assert coded.phases["join"] == join
    sent = (coded.bytes_sent - join / 2) / (plain.bytes_sent - join / 2)
    received = (coded.bytes_received - join / 2) / (plain.bytes_received - join / 2)
    assert sent == received <= most
    assert coded.row()["exchange/exchange_bytes"] <= most * plain.row()["exchange/exchange_bytes"]


@pytest.mark.parametrize("codec", ["float32", "int8", "topk(0.1)"])
def test_what_leaves_the_replicas_arrives_at_the_center_and_the_other_way_round(codec: str) -> None:
    meters, rounds = trained(codec)
    assert sum(meter.bytes_sent for meter in meters) == rounds.meter.bytes_received > 0
    assert sum(meter.bytes_received for meter in meters) == rounds.meter.bytes_sent > 0
    for phase, count in rounds.meter.phases.items():
        assert sum(meter.phases[phase] for meter in meters) == count > 0


# Members that come.


def test_a_newcomer_is_told_in_full_what_the_others_know_and_understands_the_next_word() -> None:
    codec = read_codec("int4")
    assert codec is not None
    generator = torch.Generator().manual_seed(0)
    rounds = Rounds()

    def message(kind: Kind, exchanges: int) -> Message:
        vector = torch.randn(700, generator=generator)
        return Message(
            kind=kind,
            vectors=(vector,),
            step=exchanges,
            exchanges=exchanges,
            center_steps=(CenterStep(),),
        )

    lines = [Line(codec, [torch.zeros(700)]) for _ in range(2)]
    joined = rounds.complete([message("join", 0) for _ in lines])
    for line in lines:
        line.begin(joined.vectors)

    def exchange(number: int) -> list[Reply]:
        said = [message("center", number) for _ in lines]
        reply = rounds.complete([line.says(one) for line, one in zip(lines, said, strict=True)])
        return [line.hears(reply, one) for line, one in zip(lines, said, strict=True)]

    for number in range(5):
        exchange(number)
    welcome = rounds.complete([message("join", 0)])
    assert welcome.codecs == ()
    assert torch.equal(welcome.vectors[0], lines[0]._known[0])
    lines.append(Line(codec, [torch.zeros(700)]))
    lines[-1].begin(welcome.vectors)
    first, *others = exchange(5)
    assert all(torch.equal(other.vectors[0], first.vectors[0]) for other in others)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("how", ["weights", "bytes"])
def test_a_coded_message_that_is_no_number_is_recognized(codec: str, how: str) -> None:
    coder, rounds = read_codec(codec), Rounds()
    assert coder is not None
    rounds.complete([Message(kind="join", vectors=(torch.ones(5000),), step=0, exchanges=0)])
    line = Line(coder, [torch.zeros(5000)])
    line.begin([torch.ones(5000)])

    def message(value: float) -> Message:
        vector = torch.linspace(0, 1, 5000)
        vector[4999] = value
        return line.says(Message(kind="center", vectors=(vector,), step=1, exchanges=0, center_steps=(CenterStep(),)))

    sound = message(2.0)
    assert math.isfinite(rounds.squared_gap(sound))
    if how == "weights":
        assert math.isnan(rounds.squared_gap(message(math.nan)))
    else:
        sound.vectors[0].fill_(255)
        assert math.isnan(rounds.squared_gap(sound))


def test_a_replica_that_missed_its_round_drops_what_it_had_not_said() -> None:
    replica = Replica(Bowl(torch.ones(2)), LocalSgd(replicas=2, lr=0.1, period=1, codec="int4"), total_steps=9)
    size = replica.weights[0].fast.numel()
    steps = replica.join()
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(Reply(vectors=(torch.zeros(size),), step=0, exchanges=0))
    replica.weights[0].grad.copy_(torch.linspace(0, 1, size))
    steps = replica.step()  # type: ignore[assignment]
    assert next(steps).codecs == (read_codec("int4"),)
    assert bool((replica.state()["unsaid.0"] != 0).any())
    with pytest.raises(StopIteration):
        steps.send(Reply(vectors=(torch.full((size,), 3.0),), step=7, exchanges=7))
    assert bool((replica.state()["unsaid.0"] == 0).all())
    assert torch.equal(heard(replica), torch.full((size,), 3.0))


# Resuming.


@pytest.mark.parametrize(
    ("method", "codec"),
    [("local_sgd", "int8"), ("sgd", "int4"), ("parle", "topk(0.1)"), ("diloco", "bf16"), ("rsgd", "int8")],
)
def test_a_coded_run_resumes_bit_for_bit(method: str, codec: str, tmp_path: Path) -> None:
    settings = interruptions.coupling_of(method, codec=codec)
    whole = interruptions.train(tmp_path / "whole", **settings)
    interruptions.train_interrupted(tmp_path / "parts", **settings)
    interruptions.assert_same_run(interruptions.continued(tmp_path / "parts"), whole)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.whole])
def test_groups_and_leaders_are_told_in_full(name: str) -> None:
    with pytest.raises(ConfigError, match="Must be float32: a codec says the difference to one center"):
        coupling_of(name, codec="int8")
