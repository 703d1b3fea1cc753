"""The rule by which settings spread, and how they travel: in the scalars of a round, exactly."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeprelax.config import RunConfig
from deeprelax.coupling import METHODS, Coupling, Diloco, ElasticSgd, Parle, Rsgd, Sgd
from deeprelax.coupling.message import Message
from deeprelax.errors import ConfigError
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.population import (
    Knob,
    PopulationConfig,
    Standing,
    evolve,
    first_times,
    gathered,
    generator_of,
    rounded,
    slots,
)

BOTH = PopulationConfig(knobs=("lr", "gamma"))


def population(*losses: float) -> list[Standing]:
    """Replica a has the multipliers 1 + a and 10 + a."""
    return [Standing(a, loss, (1.0 + a, 10.0 + a)) for a, loss in enumerate(losses)]


def decide(standings: list[Standing], config: PopulationConfig = BOTH, exchanges: int = 4) -> dict[int, Any]:
    return evolve(standings, config, generator_of(7, exchanges))


def test_the_worst_takes_the_bests_settings_changed_by_a_factor() -> None:
    seen = set()
    for exchanges in range(100):
        moves = decide(population(0.3, 0.1, 0.2), exchanges=exchanges)
        assert moves[1] == (1, (2.0, 11.0))
        assert moves[2] == (2, (3.0, 12.0))
        source, (lr, gamma) = moves[0]
        assert source == 1
        seen.add((lr, gamma))
    assert seen == set(itertools.product((2.4, rounded(2 / 1.2)), (13.2, rounded(11 / 1.2))))


def test_several_are_exploited_where_the_fraction_says_so() -> None:
    config = PopulationConfig(knobs=("lr", "gamma"), exploited=0.4)
    sources = set()
    for exchanges in range(50):
        moves = decide(population(5, 4, 3, 2, 1), config, exchanges)
        assert [moves[a].source for a in (2, 3, 4)] == [2, 3, 4]
        sources.add((moves[0].source, moves[1].source))
    assert sources == set(itertools.product((3, 4), repeat=2))


def test_nobody_takes_settings_that_are_no_better() -> None:
    for losses in ((0.5, 0.5, 0.5), (math.inf, math.inf)):
        standings = population(*losses)
        assert decide(standings) == {one.replica: (one.replica, one.times) for one in standings}


def test_a_single_replica_that_is_present_keeps_its_settings() -> None:
    assert decide(population(0.5)) == {0: (0, (1.0, 10.0))}


def test_a_replica_whose_loss_is_not_known_takes_the_settings_of_the_best() -> None:
    assert decide(population(0.3, math.inf, 0.1))[1].source == 2


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 1000))
def test_a_population_with_other_indices_decides_the_same(order: list[int], exchanges: int) -> None:
    config = PopulationConfig(knobs=("lr", "gamma"), exploited=0.5)
    usual = population(0.3, 0.6, 0.1, 0.5, 0.4, 0.2)
    renamed = [Standing(order[one.replica], one.loss, one.times) for one in usual]
    renamed.sort(key=lambda one: one.replica)
    before, after = decide(usual, config, exchanges), decide(renamed, config, exchanges)
    assert after == {order[a]: (order[move.source], move.times) for a, move in before.items()}


def test_decisions_depend_on_seed_and_exchange_alone() -> None:
    standings, config = population(0.3, 0.1, 0.2), PopulationConfig(knobs=("lr", "gamma"))
    drawn = [evolve(standings, config, generator_of(seed, e))[0] for seed in range(5) for e in range(5)]
    again = [evolve(standings, config, generator_of(seed, e))[0] for seed in range(5) for e in range(5)]
    assert drawn == again
    assert len(set(drawn)) == 4


def test_the_first_settings_are_spread_within_the_factor_and_replica_0_has_the_runs_own() -> None:
    config = PopulationConfig(knobs=("lr", "rho"), spread=3.0)
    times = [first_times(config, seed, a) for seed in range(50) for a in range(4)]
    assert times[::4] == [(1.0, 1.0)] * 50
    logs = torch.tensor([t for i, t in enumerate(times) if i % 4]).log() / math.log(3.0)
    assert logs.abs().max() <= 1 + 1e-5
    assert logs.mean().abs() < 0.15
    assert logs.std() == pytest.approx(3**-0.5, abs=0.06), "log-uniform"
    assert first_times(PopulationConfig(spread=1.0), 0, 1) == (1.0,)


# How they travel.


def told(standings: list[Standing], replicas: int) -> list[Standing]:
    """Send the standings through a round and return what its members hear."""
    messages = [
        Message(kind="mean", vectors=(torch.zeros(1),), step=0, exchanges=0, scalars=slots(one, replicas))
        for one in standings
    ]
    reply = Rounds().complete(messages)
    return gathered(reply.scalars, reply.members, replicas)


@pytest.mark.parametrize("replicas", [2, 3, 7, 11, 49])
def test_everybody_hears_everybodys_settings_exactly(replicas: int) -> None:
    generator = random.Random(replicas)
    standings = [
        Standing(a, generator.random(), tuple(rounded(2 ** generator.uniform(-9, 9)) for _ in range(3)))
        for a in range(replicas)
    ]
    heard = told(standings, replicas)
    assert [one.times for one in heard] == [one.times for one in standings]
    assert [one.loss for one in heard] == pytest.approx([one.loss for one in standings], rel=1e-15)


def test_who_is_missing_does_not_take_part() -> None:
    standings = population(0.3, 0.1, 0.2)
    assert [one.replica for one in told([standings[0], standings[2]], 3)] == [0, 2]


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_spoils_no_other(loss: float) -> None:
    heard = told(population(0.5, loss, 0.25), 3)
    assert [one.loss for one in heard] == [0.5, math.inf, 0.25]


# What is refused.


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"knobs": ()}, "Must name one of lr, gamma, rho"),
        ({"knobs": ("period",)}, "Invalid knobs.0='period'. Must be 'lr', 'gamma' or 'rho'"),
        ({"every": 0}, "Invalid every=0. Must be greater than or equal to 1"),
        ({"spread": 0.5}, "Invalid spread=0.5"),
        ({"exploited": 0.6}, "Invalid exploited=0.6"),
        ({"exploited": 0.0}, "Invalid exploited=0.0"),
        ({"perturbation": math.inf}, "Invalid perturbation=inf"),
        ({"perturb": 1.2}, "Unknown field 'perturb'. Did you mean 'perturbation'"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        PopulationConfig(**fields)
    assert says in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        RunConfig(trainable="digits", population=fields)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("coupling", "knobs", "says"),
    [
        (Parle(replicas=1), ("lr",), "Invalid replicas=1. Must be >= 2"),
        (METHODS["entropy_sgd"](), ("lr",), "Invalid replicas=1. Must be >= 2"),
        (Sgd(replicas=3), ("lr",), "Cannot adapt sgd: its replicas hold equal weights"),
        (Diloco(), ("lr", "gamma"), "Cannot adapt 'gamma': diloco has no such schedule. It has: lr."),
        (Rsgd(), ("lr",), "Cannot adapt with rho=auto"),
        (ElasticSgd(period=25), ("rho",), "Invalid every=4. Must be < 4, the exchanges of the run"),
    ],
    ids=str,
)
def test_a_run_that_cannot_adapt_is_refused(coupling: Coupling, knobs: tuple[Knob, ...], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        PopulationConfig(knobs=knobs).refuse_impossible(coupling.with_fields(lr=0.1), 100)
    assert says in str(raised.value)


def test_a_holdout_to_judge_by_must_be_there() -> None:
    config, coupling = PopulationConfig(judge="holdout"), ElasticSgd(lr=0.1)
    config.refuse_impossible(coupling, 100, 0.1)
    with pytest.raises(ConfigError, match=r"holds out nothing\. Give holdout=0\.1"):
        config.refuse_impossible(coupling, 100)


def test_a_knob_named_twice_counts_once() -> None:
    assert PopulationConfig(knobs=("lr", "rho", "lr")).knobs == ("lr", "rho")
