"""The exchange through shared memory: the numbers of one process in every coupling, and nothing left behind."""

from __future__ import annotations

import gc
import json
import math
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults import toy_loop
from tests.unit.heads import Host, hosted
from tests.unit.linear_loop import steps_of
from tests.unit.quadratics import Quadratic, noise_table, spread_starts
from tests.unit.test_coupled import STEPS, TOGETHER, coupling_of, expected, loop_of_a_user
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from deeprelax import Coupled
from deeprelax.coupling import METHODS
from deeprelax.coupling.codec import Int8, TopK
from deeprelax.coupling.message import CenterStep, Kind, Message, Reply
from deeprelax.errors import ExchangeError, StartAgainError
from deeprelax.exchange import center
from deeprelax.exchange.base import drive
from deeprelax.exchange.center import Center
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.server.wire import pack, unpack
from deeprelax.exchange.shared_memory.channel import Channel
from deeprelax.exchange.shared_memory.crew import Crew
from deeprelax.exchange.shared_memory.line import Line
from deeprelax.exchange.shared_memory.vectors import SharedVectors
from deeprelax.exchange.shared_memory.words import read_message, read_reply, write_message, write_reply


@contextmanager
def line(name: str, replica: int, life: str = "first") -> Iterator[Line]:
    with closing(Line(Channel.connect(name), Member(replica, life), timeout_s=60.0)) as made:
        yield made


@contextmanager
def group(host: Host, replicas: int) -> Iterator[tuple[list[Line], ThreadPoolExecutor]]:
    """Hold the lines of replicas that have joined with a 1, and threads for them."""
    with ExitStack() as stack, ThreadPoolExecutor(replicas) as pool:
        lines = [stack.enter_context(line(host.name, replica)) for replica in range(replicas)]
        list(pool.map(lambda one: one.exchange(join(torch.ones(1))), lines))
        yield lines, pool


def join(*vectors: Tensor) -> Message:
    return Message(kind="join", vectors=vectors, step=0, exchanges=0)


# In processes.


def process(rank: int, names: dict[str, str], folder: Path) -> None:
    """Be one of three replicas of every coupling; leave the weights in a file."""
    torch.set_num_threads(1)
    results = {}
    for name in TOGETHER:
        model = Quadratic(spread_starts(3)[rank])
        with line(names[name], rank) as exchange:
            coupled = Coupled(
                model, coupling_of(name, 3), total_steps=STEPS, steps_per_pass=STEPS // 2, exchange=exchange, index=rank
            )
            results[name] = loop_of_a_user(model, coupled, noise_table(3, STEPS)[rank])
    torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("memory")
    hosts = {name: Host(3) for name in TOGETHER}
    try:
        spawn(process, args=({name: host.name for name, host in hosts.items()}, folder), nprocs=3)
    finally:
        for host in hosts.values():
            host.end()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.mark.parametrize("name", TOGETHER)
def test_three_processes_train_as_three_replicas_of_one_process_bit_for_bit(
    name: str, results: list[dict[str, Tensor]]
) -> None:
    assert torch.equal(torch.stack([one[name] for one in results]), expected(name, 3))


# In threads.


@pytest.mark.parametrize("size", [7, 1_100_000], ids=["less than a block", "blocks that several threads move"])
def test_the_center_moves_as_in_one_process_bit_for_bit(size: int) -> None:
    job = toy_loop.job(size=size, exchanges=5)

    def run(replica: int, host: Host) -> None:
        with line(host.name, replica) as own:
            drive(toy_loop.quadratic(job, replica, "cpu", lambda _: None, dict), own)

    with hosted(2) as host:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, range(2), [host, host]))
        there: Center = host.head._store.rounds.center
    rounds = Rounds()
    run_together([toy_loop.quadratic(job, a, "cpu", lambda _: None, dict) for a in range(2)], rounds)
    assert rounds.center is not None
    here = rounds.center.state()
    assert here.keys() == there.state().keys()
    assert all(torch.equal(here[name], vector) for name, vector in there.state().items())


@pytest.mark.parametrize(
    "fields",
    [
        {"codec": "int8"},
        {"overlap": 2},
        {"fragments": 2},
        {"codec": "topk(0.1)", "overlap": 1, "fragments": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["diloco", "parle"])
def test_coded_overlapped_and_fragmented_messages_arrive_as_in_one_process_bit_for_bit(
    name: str, fields: dict[str, Any]
) -> None:
    coupling = METHODS[name](replicas=2, lr=0.1, period=6, **fields)
    rounds, here, there = Rounds(), *([steps_of(coupling, a, 23) for a in range(2)] for _ in range(2))
    run_together([loop for _, loop in here], rounds)

    def run(replica: int, host: Host) -> None:
        with line(host.name, replica) as own:
            drive(there[replica][1], own)

    with hosted(2) as host:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, range(2), [host, host]))
        moved = host.head._store.rounds
        shared = len(host.head._meeting._copies)
    for (near, _), (far, _) in zip(here, there, strict=True):
        assert torch.equal(near.weights[0].fast, far.weights[0].fast)
    assert rounds.center is not None
    state, other = rounds.center.state(), moved.center.state()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert moved.meter == rounds.meter
    assert shared <= coupling.fragments + 2, "memory is used again: by each fragment, by all, by who joins"


def test_blocks_and_threads_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    start, *members = (torch.randn(1000, generator=generator) for _ in range(4))
    steps = CenterStep(lr=0.7, momentum=0.9)
    whole = Center([start])
    for _ in range(3):
        whole.meet([[member] for member in members], [steps])
    monkeypatch.setattr(center, "_BLOCK_ELEMENTS", 17)
    parts = Center([start])
    crew = Crew(2)
    parts.make = crew.make
    for _ in range(3):
        parts.meet([[member] for member in members], [steps])
    crew.close()
    assert torch.equal(parts.vectors[0], whole.vectors[0])
    assert torch.equal(parts.velocity[0], whole.velocity[0])


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ends = [Channel(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    yield ends[0], ends[1]
    for end in ends:
        end.close()


def test_vectors_of_any_type_are_passed_by_reference(pair: tuple[Channel, Channel]) -> None:
    sent = [torch.tensor([1.5, 2.5]), torch.empty(0), torch.ones(3, dtype=torch.bfloat16), torch.ones(1).double()]
    shared = SharedVectors.like(sent)
    pair[0].send({"number": 0.1}, shared)
    words, (received,) = pair[1].receive()
    assert words["number"] == 0.1
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(received.vectors, sent, strict=True))
    shared.vectors[0][0] = 7.0
    assert received.vectors[0].tolist() == [7.0, 2.5], "the memory is one"
    pair[0].send({}, shared)
    assert pair[1].receive()[1] == [received], "it is handed over once"


def test_memory_has_no_file_and_ends_with_the_last_tensor_that_lies_in_it() -> None:
    gc.collect()
    before = held()
    shared = SharedVectors.like([torch.ones(10)])
    kept = shared.vectors[0]
    assert "/memfd:deeprelax (deleted)" in Path("/proc/self/maps").read_text(), "no folder names it"
    del shared
    gc.collect()
    assert kept.sum() == 10
    assert held() != before
    del kept
    gc.collect()
    assert held() == before


def held() -> tuple[int, int]:
    """Return how many pieces of memory and how many descriptors this process holds."""
    return Path("/proc/self/maps").read_text().count("memfd:deeprelax"), len(list(Path("/proc/self/fd").iterdir()))


def test_a_replica_whose_connection_ends_is_dropped_and_its_replacement_starts_from_the_center() -> None:
    with hosted(2) as host, group(host, 2) as (lines, _):
        lines[1].close()
        rule = (CenterStep(),)
        said = Message(kind="center", vectors=(torch.tensor([8.0]),), step=5, exchanges=0, center_steps=rule)
        reply = lines[0].exchange(said)
        assert (reply.members, reply.vectors[0].item()) == (1, 8.0)
        with line(host.name, 1, "second") as new:
            joined = new.exchange(join(torch.tensor([100.0])))
        assert (joined.exchanges, joined.step, joined.vectors[0].item()) == (1, 5, 8.0)
        events = [(row["event"], row["replica"]) for row in host.rows()]
        assert sorted(events[:2]) == [("joined", 0), ("joined", 1)]
        assert events[2:4] == [("lost", 1), ("rejoined", 1)]


def test_a_message_that_is_not_finite_counts_nowhere_and_its_replica_joins_again_on_the_same_line() -> None:
    rule = (CenterStep(),)
    with hosted(2) as host, group(host, 2) as (lines, _):
        poisoned = Message(kind="center", vectors=(torch.tensor([math.nan]),), step=5, exchanges=0, center_steps=rule)
        with pytest.raises(StartAgainError, match="refused"):
            lines[1].exchange(poisoned)
        said = replace(poisoned, vectors=(torch.tensor([8.0]),))
        assert lines[0].exchange(said).vectors[0].item() == 8.0
        lines[1].member = Member(1, "second")
        joined = lines[1].exchange(join(torch.ones(1)))
        assert (joined.exchanges, joined.vectors[0].item()) == (1, 8.0)


def test_a_coded_message_is_judged_by_its_numbers_and_not_by_its_bytes() -> None:
    rule, codec = (CenterStep(),), Int8()
    said = Message(
        kind="center", vectors=(codec.encode(torch.ones(1)),), step=5, exchanges=0, center_steps=rule, codecs=(codec,)
    )
    with hosted(2) as host, group(host, 2) as (lines, _):
        poisoned = replace(said, vectors=(codec.encode(torch.tensor([math.nan])),))
        with pytest.raises(StartAgainError, match="refused"):
            lines[1].exchange(poisoned)
        reply = lines[0].exchange(said)
        assert (reply.exchanges, reply.codecs, reply.members) == (1, (codec,), 1)
        assert codec.decode(reply.vectors[0], torch.empty(1)).item() == 1.0, "from 1 to 2"


def test_words_keep_every_field_of_a_message_and_of_a_reply() -> None:
    member = Member(3, "life")
    said = Message(
        kind="center", vectors=(), step=7, exchanges=2, center_steps=(CenterStep(lr=0.7, momentum=0.9),),
        scalars=(0.1, math.inf), codecs=(Int8(), None, TopK(0.25)), slices=((0, 4096), (3, 3), (1, 2)),
        phase="evaluation", stage="post", group=1, score=0.3, finite=True, max_ahead=4,
    )  # fmt: skip
    heard = Reply(
        vectors=(), step=7, exchanges=3, scalars=(0.1,), members=2, stop=True, codecs=(TopK(0.25), None), save=True
    )
    words = json.loads(json.dumps([write_message(member, said), write_reply(heard)]))
    assert read_message(words[0], ()) == (member, said)
    assert read_reply(words[1], (), ()) == heard


def test_what_is_written_is_looked_at_and_a_sum_that_overflows_is_no_error() -> None:
    huge = torch.full((2,), torch.finfo(torch.float32).max)
    shared = SharedVectors.like([huge, torch.zeros(3)])
    assert shared.write([huge, torch.zeros(3)])
    assert not shared.write([huge, torch.tensor([0.0, math.inf, -math.inf])])


def test_a_late_end_of_a_replaced_process_does_not_drop_its_replacement() -> None:
    said = Message(kind="mean", vectors=(torch.ones(1),), step=5, exchanges=0)
    with hosted(2) as host, group(host, 2) as (lines, pool), line(host.name, 1, "second") as new:
        new.exchange(join(torch.ones(1)))
        with pytest.raises(ExchangeError, match="taken over by another process"):
            lines[1].exchange(said)
        lines[1].close()
        assert [reply.members for reply in pool.map(lambda one: one.exchange(said), (lines[0], new))] == [2, 2]


def test_members_of_another_machine_and_of_this_one_take_part_in_one_round() -> None:
    away = Member(1, "elsewhere")
    kinds: tuple[Kind, ...] = ("join", "mean")
    with hosted(2) as host, line(host.name, 0) as here, ThreadPoolExecutor(1) as pool:
        for kind in kinds:
            message = Message(kind=kind, vectors=(torch.tensor([1.0]),), step=0, exchanges=0)
            packed = pack([torch.tensor([5.0])])
            spoken = pool.submit(host.call, host.head.speak, away, replace(message, vectors=()), packed, 0.0)
            near = here.exchange(message)
            far: Any = spoken.result(60)
            assert unpack(far.packed)[0].item() == near.vectors[0].item() == 3.0


def test_a_head_that_ends_is_a_clear_error() -> None:
    host = Host(2)
    with line(host.name, 0) as waiting:
        timer = threading.Timer(0.2, host.end)
        timer.start()
        with pytest.raises(ExchangeError, match=r"center server is gone.*Resume the run from its newest checkpoint"):
            waiting.exchange(join(torch.ones(1)))
        timer.join()
