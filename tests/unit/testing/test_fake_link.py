"""A link that is slow and loses packets: what it costs, and that no number changes."""

from __future__ import annotations

import time

import pytest
import torch

from deeprelax.coupling.message import CenterStep, Message, Reply
from deeprelax.errors import ConfigError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.rounds import Rounds
from deeprelax.testing import FakeLink, RealClock, VirtualClock
from deeprelax.testing.fake_link import LONGEST_RETRY_S, PACKET_BYTES, RETRY_S


class Alone(Exchange):
    """A round of one."""

    def __init__(self) -> None:
        self.rounds = Rounds()

    def exchange(self, message: Message) -> Reply:
        return self.rounds.complete([message])


def message(size: int, kind: str = "join") -> Message:
    return Message(
        kind=kind,  # type: ignore[arg-type]
        vectors=(torch.arange(size, dtype=torch.float32),),
        step=0,
        exchanges=0,
        center_steps=(CenterStep(),),
    )


def test_a_message_takes_latency_and_bytes_over_rate_both_ways() -> None:
    clock = VirtualClock()
    link = FakeLink(Alone(), "8Mbit:20ms", clock=clock)
    link.exchange(message(250_000))
    assert clock() == pytest.approx(2 * (0.02 + 1.0))
    assert (link.sent_bytes, link.received_bytes) == (1_000_000, 1_000_000)


def test_loss_costs_time_and_bytes_and_changes_no_number() -> None:
    clock = VirtualClock()
    link, plain = FakeLink(Alone(), "8Mbit:20ms", loss=0.1, seed=1, clock=clock), Alone()
    replies = [exchange.exchange(message(250_000)) for exchange in (link, plain)]
    assert torch.equal(replies[0].vectors[0], replies[1].vectors[0])
    assert clock() > 2 * (0.02 + 1.0 + RETRY_S)
    assert link.sent_bytes == pytest.approx(1_000_000 / 0.9, rel=0.05)


def test_the_same_seed_loses_the_same_packets() -> None:
    times = []
    for seed in (3, 3, 4):
        clock = VirtualClock()
        FakeLink(Alone(), "8Mbit:20ms", loss=0.05, seed=seed, clock=clock).exchange(message(250_000))
        times.append(clock())
    assert times[0] == times[1] != times[2]


def test_waits_double_up_to_a_limit() -> None:
    clock = VirtualClock()
    link = FakeLink(Alone(), "1Gbit", loss=0.999, seed=0, clock=clock)
    link.exchange(message(PACKET_BYTES // 4))
    attempts = (link.sent_bytes + link.received_bytes) / PACKET_BYTES
    assert attempts > 100
    assert clock() < attempts * (LONGEST_RETRY_S + 1)


def test_a_real_clock_waits() -> None:
    began = time.monotonic()
    FakeLink(Alone(), "1Gbit:50ms", clock=RealClock()).exchange(message(10))
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("loss", [-0.1, 1.0, float("nan")])
def test_a_loss_is_a_probability_below_one(loss: float) -> None:
    with pytest.raises(ConfigError, match="Invalid loss"):
        FakeLink(Alone(), "1Gbit", loss=loss)
