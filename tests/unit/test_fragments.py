"""Weights that are exchanged in parts, one after the other: the recursion, the center, the bytes, resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit import interruptions
from tests.unit.quadratics import SIZE, close, gradient, kept, noise_table, point_of, spread_starts, train
from torch import Tensor

from deeprelax.coupling import METHODS, Coupling, EntropySgd, LocalSgd, Rsgd, Sgd
from deeprelax.coupling.codec import CHUNK, Int8
from deeprelax.coupling.message import Message
from deeprelax.errors import ConfigError
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.wire import join, split
from deeprelax.replica.fragments import cut
from deeprelax.replica.replica import Replica

REPLICAS, STEPS, PERIOD = 3, 24, 6
NOISE = noise_table(REPLICAS, STEPS)
STARTS = spread_starts(REPLICAS)


def coupling_of(name: str, **fields: Any) -> Coupling:
    return METHODS[name](**{"replicas": REPLICAS, "lr": 0.05, "period": PERIOD, **fields})


def owners(fragments: int) -> Tensor:
    """Return which fragment each of the 8 parameters is in, from where they lie in the flat vector."""
    run = train(coupling_of("local_sgd"), NOISE[:, :1])
    flat = run.replicas[0].weights[0].fast
    marks = torch.zeros_like(flat)
    for number, (begin, end) in enumerate(cut(len(flat), fragments)):
        marks[begin:end] = number
    return point_of(run.replicas[0], marks)


@pytest.mark.parametrize(("fragments", "overlap"), [(2, 0), (2, 2), (3, 1)])
def test_each_fragment_is_averaged_once_a_period_and_the_others_go_on(fragments: int, overlap: int) -> None:
    owner, stride = owners(fragments), PERIOD // fragments
    points, left, mean, turn = STARTS.clone(), STARTS.clone(), STARTS.mean(0), 0
    expected = []
    for k in range(STEPS - 1):
        points = points - 0.05 * torch.stack([gradient(y, NOISE[a, k]) for a, y in enumerate(points)])
        if (k + 1) % stride == 0:
            left, mean, turn = points.clone(), points.mean(0), ((k + 1) // stride - 1) % fragments
        if (k + 1) % stride == overlap and k + 1 > overlap:
            points = torch.where(owner == turn, mean + (points - left), points)
        expected.append(points)
    coupling = coupling_of("local_sgd", momentum=0, fragments=fragments, overlap=overlap)
    run = train(coupling, NOISE[:, : STEPS - 1], starts=STARTS, planned_steps=STEPS)
    close(run.points, torch.stack(expected, 1))
    assert len(set(owner.tolist())) > 1, "or nothing was tested"


@pytest.mark.parametrize("codec", ["float32", "int8", "topk(0.5)"])
@pytest.mark.parametrize("name", ["local_sgd", "diloco", "parle", "easgd", "elastic_sgd"])
def test_all_replicas_know_one_center_and_at_the_end_it_is_whole(name: str, codec: str) -> None:
    coupling = coupling_of(name, fragments=2, overlap=1, codec=codec)
    run = train(coupling, NOISE, starts=STARTS, finish=True)
    for seen in run.centers_seen[1:]:
        assert all(torch.equal(one, other) for one, other in zip(seen, run.centers_seen[0], strict=True))
    assert run.rounds.exchanges == 2 * STEPS // PERIOD + 1
    assert run.rounds.center is not None
    here = run.rounds.center.known or run.rounds.center.vectors
    assert torch.equal(run.replicas[0].center()[0], here[0])
    whole = train(coupling_of(name), NOISE, starts=STARTS, finish=True)
    moved = float((whole.centers[0] - whole.centers[-1]).norm())
    assert float((run.centers[-1] - whole.centers[-1]).norm()) < {"topk(0.5)": 1.0}.get(codec, 0.5) * moved


def test_the_outer_momentum_of_a_fragment_is_its_own() -> None:
    run = train(coupling_of("diloco", fragments=2), NOISE[:, : PERIOD // 2], starts=STARTS)
    assert run.rounds.center is not None
    velocity = point_of(run.replicas[0], run.rounds.center.velocity[0])
    assert bool((velocity[owners(2) == 0] != 0).all())
    assert bool((velocity[owners(2) == 1] == 0).all())


def test_a_fragment_of_parle_starts_again_alone() -> None:
    run = train(coupling_of("parle", fragments=2, gamma=1.0), NOISE[:, : PERIOD // 2], starts=STARTS)
    replica, first = run.replicas[0], owners(2) == 0
    assert torch.equal(point_of(replica)[first], kept(replica, "anchor")[first])
    assert not torch.equal(point_of(replica)[~first], kept(replica, "anchor")[~first])


def test_a_message_carries_its_part_of_the_bytes() -> None:
    coupling = LocalSgd(replicas=2, lr=0.1, period=4, fragments=4)
    replica = Replica(torch.nn.Linear(100, 300), coupling, total_steps=100)
    size = len(replica.weights[0].fast)
    sent: list[Message] = []
    rounds = Rounds()
    steps = replica.join()
    said = next(steps)
    with pytest.raises(StopIteration):
        steps.send(rounds.complete([said]))
    for _ in range(8):
        stepping = replica.step()
        message = next(stepping)
        sent.append(message)
        with pytest.raises(StopIteration):
            stepping.send(rounds.complete([message]))
    assert sum(len(message.vectors[0]) for message in sent) == 2 * size
    assert max(len(message.vectors[0]) for message in sent) <= size / 4 + CHUNK
    assert [message.slices[0][0] for message in sent] == 2 * [begin for begin, _ in cut(size, 4)]


@pytest.mark.parametrize("size", [0, 1, 7, 8191, 8192, 50_000])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_slices_cover_a_vector_without_gaps(size: int, parts: int) -> None:
    slices = cut(size, parts)
    assert [begin for begin, _ in slices] == [0, *(end for _, end in slices[:-1])]
    assert slices[-1][1] == size
    if size >= parts * CHUNK:
        assert all(begin % CHUNK == 0 for begin, _ in slices)
        assert max(end - begin for begin, end in slices) <= size / parts + CHUNK


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("servers", [1, 2, 5])
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_servers_share_a_fragment_as_they_share_the_center(turn: int, servers: int, coded: bool) -> None:
    size, codec = 10 * CHUNK + 300, Int8()
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    begin, end = cut(size, 3)[turn]
    word = codec.encode(vector[begin:end]) if coded else vector[begin:end]
    codecs = (codec,) if coded else ()
    shares = split([word], servers, codecs, [(begin, end)], [size])
    assert torch.equal(join([share.pieces for share in shares])[0], word)
    wholes = split([vector], servers)
    for share, whole in zip(shares, wholes, strict=True):
        (piece,), ((first, last),) = share.pieces, share.slices
        here = whole.pieces[0][first:last]
        assert torch.equal(piece, codec.encode(here) if coded else here)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("local_sgd", {"codec": "int8", "overlap": 1}),
        ("diloco", {}),
        ("parle", {"batchnorm": "average"}),
    ],
    ids=str,
)
def test_a_run_in_fragments_resumes_bit_for_bit(method: str, fields: dict[str, Any], tmp_path: Path) -> None:
    settings = interruptions.coupling_of(method, fragments=2, **fields)
    whole = interruptions.train(tmp_path / "whole", **settings)
    interruptions.train_interrupted(tmp_path / "parts", **settings)
    interruptions.assert_same_run(interruptions.continued(tmp_path / "parts"), whole)
    again = interruptions.continued(tmp_path / "whole")
    assert again.metrics == whole.metrics, "a run that has ended makes no further exchange"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LocalSgd(period=3, fragments=4), "Must be at most 3"),
        (lambda: METHODS["hierarchical_parle"](fragments=2), "Must be 1: groups and leaders of hierarchical_parle"),
        (lambda: LocalSgd(period=6, fragments=2, overlap=3), "Must be < 3"),
        (lambda: Sgd(replicas=2, fragments=2), "exchanges everything or nothing"),
        (lambda: EntropySgd(fragments=2), "exchanges everything or nothing"),
        (lambda: LocalSgd(fragments=2, momentum_policy="reset"), "momentum_policy=reset"),
        (lambda: Replica(torch.nn.Linear(SIZE, 1), Rsgd(lr=0.1, period=4, fragments=2)), "balanced over all weights"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)
