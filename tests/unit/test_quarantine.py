"""Weights that no center should hear of: which ones, what becomes of their replica, and what ends the run."""

from __future__ import annotations

import math

import pytest
import torch
from tests.unit.test_server_rounds import Run, member, names

from deeprelax.coupling.codec import read_codec
from deeprelax.coupling.message import CenterStep, Message
from deeprelax.errors import DivergedError
from deeprelax.exchange.center import Center
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.quarantine import refused
from deeprelax.replica.line import Line

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("gaps", "before", "out"),
    [
        ([1.0, 2.0, 3.0], [], set()),
        ([1.0, NAN], [], {1}),
        ([INF, NAN], [], {0, 1}),
        ([1.0, 1e9], [], set()),
        ([1.0, 1e9, 1.0], [], {1}),
        ([1.0, 99.0, 1.0], [], set()),
        ([1.0, 1e9, NAN], [], {2}),
        ([1.0, 1e9, NAN, 1.0], [], {1, 2}),
        ([1e9, 1e9, 1.0, 1.0, 1.0], [], {0, 1}),
        ([0.0, 1.0, 0.0], [], set()),
        ([1.0, 1e9, 1.0], [1.0, 5e8, 1.0], set()),
        ([1.0, 1e9, 1.0], [1.0, 2.0, 1.0], {1}),
    ],
    ids=[
        "alike", "one of two", "all", "two cannot tell", "outlier", "merely far", "too few are finite", "both kinds",
        "two of five", "others stand still", "always far", "jumped",
    ],
)  # fmt: skip
def test_who_is_refused(gaps: list[float], before: list[float], out: set[int]) -> None:
    assert refused(dict(enumerate(gaps)), dict(enumerate(before))) == out


def test_the_gap_is_that_of_all_numbers_and_shows_what_is_not_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(2**18 + 7, generator=generator)
    center = Center([many, torch.zeros(2, dtype=torch.float64)])
    moved = [many + 2.0, torch.ones(2, dtype=torch.float64)]
    assert center.squared_distance(moved) == pytest.approx(4.0 * len(many) + 2.0, rel=1e-5)
    moved[0][-1] = NAN
    assert math.isnan(center.squared_distance(moved))
    assert center.squared_distance([many, torch.full((2,), 1e200, dtype=torch.float64)]) == INF


@pytest.mark.parametrize("codec", ["float32", "int8", "topk(0.5)"])
@pytest.mark.parametrize("slices", [(), ((6, 9),)], ids=["whole", "fragment"])
def test_the_gap_of_a_message_is_that_of_what_it_says_about_its_elements(
    slices: tuple[tuple[int, int], ...], codec: str
) -> None:
    center, moved = torch.arange(9.0), torch.arange(9.0)
    moved[7] += 5.0
    rounds, coder = Rounds(Center([center])), read_codec(codec)
    vector = moved[6:9] if slices else moved
    message = Message(kind="center", vectors=(vector,), step=0, exchanges=0, slices=slices)
    if coder is not None:
        line = Line(coder, [center])
        line.begin([center])
        message = line.says(message)
    assert rounds.squared_gap(message) == pytest.approx(25.0, rel=1e-4)


def test_poison_is_kept_out_and_its_replica_joins_again_at_the_center() -> None:
    run = Run(3)
    run.start("0a", "1a", "2a")
    run.say("0a", "center", 0, value=1.0)
    refusal = run.say("1a", "center", 0, value=NAN)
    assert refusal is not None
    assert [to.replica for to in refusal.refused] == [1]
    answer = run.say("2a", "center", 0, value=3.0)
    assert names(answer) == ["0a", "2a"]
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [2.0] * 3
    assert run.events() == [("quarantined", 1)]
    welcome = run.say("1b", "join", 0)
    assert welcome is not None
    assert (welcome.reply.exchanges, welcome.reply.vectors[0].tolist()) == (1, [2.0] * 3)
    assert run.events() == [("rejoined", 1)]
    assert [run.say(who, "center", 1) for who in ("0a", "1b")] == [None, None]
    assert names(run.say("2a", "center", 1)) == ["0a", "1b", "2a"]


def test_an_outlier_is_refused_when_the_round_closes() -> None:
    run = Run(3)
    run.start("0a", "1a", "2a")
    run.say("0a", "center", 0, value=1.0)
    run.say("1a", "center", 0, value=1e9)
    answer = run.say("2a", "center", 0, value=3.0)
    assert names(answer) == ["0a", "2a"]
    assert answer is not None
    assert [to.replica for to in answer.refused] == [1]
    assert answer.reply.vectors[0].tolist() == [2.0] * 3
    assert run.events() == [("quarantined", 1)]


def test_what_the_other_servers_measured_counts() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    message = Message(kind="center", vectors=(torch.zeros(3),), step=0, exchanges=0, center_steps=(CenterStep(),))
    answer = run.coordinator.hear(member("1a"), message, elsewhere=NAN)
    assert answer is not None
    assert [to.replica for to in answer.refused] == [1]
    assert names(run.coordinator.expire()) == ["0a"]


def test_when_all_are_poisoned_the_run_has_diverged() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0, value=NAN)
    with pytest.raises(DivergedError, match=r"replicas \[1\] are not finite.*2 had to be refused.*Use a smaller lr"):
        run.say("1a", "center", 0, value=INF)


def test_a_run_that_is_poisoned_again_and_again_has_diverged() -> None:
    run = Run(2, max_refused=1)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    run.say("1a", "center", 0, value=NAN)
    run.coordinator.expire()
    run.say("1b", "join", 0)
    run.say("0a", "center", 1)
    with pytest.raises(DivergedError, match="2 had to be refused"):
        run.say("1b", "center", 1, value=NAN)


def test_without_elasticity_nobody_is_judged() -> None:
    run = Run(2, elastic=False)
    run.start("0a", "1a")
    run.say("0a", "center", 0, value=NAN)
    assert names(run.say("1a", "center", 0)) == ["0a", "1a"]


def test_a_replica_whose_loss_is_not_finite_is_turned_away_while_another_goes_on() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    assert names(run.coordinator.stray(member("1a"))) == ["0a"]
    assert run.events() == [("quarantined", 1)]
    with pytest.raises(DivergedError, match=r"replicas \[0\]"):
        run.coordinator.stray(member("0a"))
