"""The parameter server on a real local cluster: the numbers of the in-process exchange, and clear ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import ray
import torch
from tests.faults import toy_loop
from tests.unit.linear_loop import steps_of

from deeprelax.coupling import Diloco, LocalSgd
from deeprelax.coupling.message import CenterStep, Message, Reply
from deeprelax.errors import ExchangeError, StartAgainError
from deeprelax.exchange.base import drive
from deeprelax.exchange.center import Center
from deeprelax.exchange.choice import Transport, open_exchange
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.client import ServerExchange
from deeprelax.exchange.server.coordinator import Rules
from deeprelax.exchange.server.servers import SHARD_BYTES, CenterServers, CenterState, Handles
from deeprelax.exchange.shared_memory.client import SharedMemoryExchange
from deeprelax.execution.watch import revived
from deeprelax.execution.worker import Assignment
from deeprelax.execution.worker import run_replica as run_worker
from deeprelax.replica.replica import Steps

pytestmark = pytest.mark.usefixtures("ray_cluster")

Start = Callable[..., CenterServers]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers that end with the test."""
    started: list[CenterServers] = []

    def start(replicas: int, **options: object) -> CenterServers:
        servers = CenterServers.start(Rules(replicas=replicas, elastic=replicas > 1, lease_s=60.0), **options)  # type: ignore[arg-type]
        started.append(servers)
        return servers

    yield start
    for servers in started:
        servers.close()


def run_replica(
    servers: Handles, replica: int, replicas: int, job: dict[str, object], exchange: ServerExchange | None = None
) -> ServerExchange:
    exchange = exchange or ServerExchange(servers, replica, replicas)
    try:
        drive(toy_loop.quadratic(job, replica, "cpu", exchange.emit, dict), exchange)
    except ValueError as error:
        exchange.fail(error)
    else:
        exchange.close()
    return exchange


def run_all(servers: CenterServers, replicas: int, job: dict[str, object]) -> list[ServerExchange]:
    """Run the replicas as threads of this process."""
    with ThreadPoolExecutor(replicas) as pool:
        return list(pool.map(lambda replica: run_replica(servers.handles, replica, replicas, job), range(replicas)))


def alone_in_process(replicas: int, job: dict[str, object], rounds: Rounds) -> CenterState:
    run_together([toy_loop.quadratic(job, a, "cpu", lambda _: None, dict) for a in range(replicas)], rounds)
    assert rounds.center is not None
    return CenterState(tensors=rounds.center.state(), step=rounds.step, exchanges=rounds.exchanges)


def same(a: CenterState, b: CenterState) -> bool:
    return (a.step, a.exchanges, a.tensors.keys()) == (b.step, b.exchanges, b.tensors.keys()) and all(
        torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors
    )


def test_three_workers_get_the_numbers_of_the_in_process_exchange_bit_for_bit(start: Start) -> None:
    servers = start(3)
    job = toy_loop.job(size=1000)

    @ray.remote(num_cpus=1)
    def bytes_sent_by(replica: int) -> int:
        return run_replica(servers.handles, replica, 3, job).meter.bytes_sent

    sent = ray.get([bytes_sent_by.remote(replica) for replica in range(3)])
    assert same(servers.center_state(), alone_in_process(3, job, Rounds()))
    assert sent == [21 * 12_000] * 3, "a join and 20 exchanges of 1000 float32 and 1000 float64"


@pytest.mark.parametrize(("size", "count"), [(3 * 4096 + 7, 3), (400_000, 1)], ids=["slices", "shared memory"])
def test_slices_and_shared_memory_change_no_number(start: Start, size: int, count: int) -> None:
    servers = start(2, parameter_bytes=count * SHARD_BYTES)
    assert 1 + len(servers.handles.shards) == count
    job = toy_loop.job(size=size, exchanges=30)  # a race between readers shows within these
    exchanges = run_all(servers, 2, job)
    assert same(servers.center_state(), alone_in_process(2, job, Rounds()))
    assert [exchange.meter.bytes_received for exchange in exchanges] == [31 * 12 * size] * 2


@pytest.mark.parametrize(("transport", "servers_used"), [("server", 1), ("server", 3), ("shared_memory", 1)])
@pytest.mark.parametrize(
    ("codec", "overlap", "fragments"), [("int8", 0, 1), ("topk(0.02)", 1, 2), ("float32", 2, 1), ("float32", 1, 2)]
)
def test_coded_and_overlapped_replicas_get_the_numbers_of_one_process_and_every_byte_arrives(
    start: Start, codec: str, overlap: int, fragments: int, transport: Transport, servers_used: int
) -> None:
    coupling = Diloco(replicas=2, lr=0.1, period=4, codec=codec, overlap=overlap, fragments=fragments)
    expected, here = Rounds(), [steps_of(coupling, a, 24) for a in range(2)]
    run_together([loop for _, loop in here], expected)
    servers = start(2, parameter_bytes=servers_used * SHARD_BYTES)
    assert 1 + len(servers.handles.shards) == servers_used

    there = [steps_of(coupling, a, 24) for a in range(2)]

    def run(index: int) -> Meter:
        exchange = open_exchange(transport, servers.handles, index, 2, round_timeout_s=60.0).exchange
        assert isinstance(exchange, SharedMemoryExchange) == (transport == "shared_memory")
        drive(there[index][1], exchange)
        exchange.close()
        return exchange.meter

    with ThreadPoolExecutor(2) as pool:
        meters = list(pool.map(run, range(2)))
    for (replica, _), (other, _) in zip(there, here, strict=True):
        assert torch.equal(replica.weights[0].fast, other.weights[0].fast)
    assert expected.center is not None
    state = CenterState(tensors=expected.center.state(), step=expected.step, exchanges=expected.exchanges)
    assert same(servers.center_state(), state)
    counted, total = servers.traffic(), Meter.total(meters)
    assert (counted.bytes_received, counted.bytes_sent) == (total.bytes_sent, total.bytes_received)
    assert counted.phases == total.phases
    share = 0.27 if coupling.codec else 1.0 + 1.0 / fragments
    assert 0 < total.phases["exchange"] < share * 8 * total.phases["join"]


@pytest.mark.parametrize(("transport", "overlap"), [("server", 2), ("shared_memory", 0)])
def test_a_server_that_dies_while_messages_travel_changes_no_number(
    start: Start, transport: Transport, overlap: int
) -> None:
    coupling = LocalSgd(replicas=2, lr=0.1, period=4, overlap=overlap)
    expected, here = Rounds(), [steps_of(coupling, a, 24) for a in range(2)]
    run_together([loop for _, loop in here], expected)
    servers = start(2, max_restarts=1)
    there = [steps_of(coupling, a, 24) for a in range(2)]

    def run(index: int) -> None:
        exchange, why_not = open_exchange(transport, servers.handles, index, 2, round_timeout_s=60.0)
        assert why_not is None
        loop = there[index][1]
        drive(killing(loop, servers) if index == 0 else loop, exchange)
        exchange.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    for (replica, _), (other, _) in zip(there, here, strict=True):
        assert torch.equal(replica.weights[0].fast, other.weights[0].fast)
    assert expected.center is not None
    state = CenterState(tensors=expected.center.state(), step=expected.step, exchanges=expected.exchanges)
    assert same(servers.center_state(), state)
    assert "server_restarted" in [row["event"] for row in servers.drain().rows]


def killing(loop: Steps[None], servers: CenterServers) -> Steps[None]:
    """Kill the server when the fourth exchange's message leaves."""
    message = next(loop)
    while True:
        if message.exchanges == 3 and message.stage != "collect":
            ray.kill(servers.handles.head, no_restart=False)  # type: ignore[arg-type] # typed as its class
        reply = yield message
        try:
            message = loop.send(reply)
        except StopIteration:
            return


@pytest.mark.parametrize("transports", [("auto", "auto"), ("server", "auto")])
def test_memory_and_ray_carry_replicas_of_one_run_to_the_same_numbers(
    start: Start, transports: tuple[Transport, ...]
) -> None:
    servers, job = start(2), toy_loop.job(size=400_000, exchanges=30)
    opened = [open_exchange(way, servers.handles, a, 2, round_timeout_s=60.0) for a, way in enumerate(transports)]
    through_memory = [isinstance(one.exchange, SharedMemoryExchange) for one in opened]
    assert through_memory == [way == "auto" for way in transports]
    assert [one.why_not_memory for one in opened] == [None, None]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run_replica, servers.handles, a, 2, job, one.exchange) for a, one in enumerate(opened)]
        exchanges = [one.result() for one in running]
    assert same(servers.center_state(), alone_in_process(2, job, Rounds()))
    bytes_of_all = [(exchange.meter.bytes_sent, exchange.meter.bytes_received) for exchange in exchanges]
    assert bytes_of_all == [(31 * 12 * 400_000,) * 2] * 2
    events = [row["event"] for row in servers.drain().rows]
    assert events.count("finished") == 2
    assert "lost" not in events, "the end of a connection is no loss once the replica has finished"


def test_where_there_is_no_memory_to_share_a_replica_goes_through_ray_and_says_why(start: Start) -> None:
    servers = start(2, parameter_bytes=2 * SHARD_BYTES)
    opened = open_exchange("auto", servers.handles, 0, 2, round_timeout_s=60.0)
    assert type(opened.exchange) is ServerExchange
    assert "spread over several servers" in str(opened.why_not_memory)
    opened.exchange.close()


def test_memory_that_is_asked_for_and_not_there_ends_the_run_with_the_reason(start: Start) -> None:
    servers = start(2, parameter_bytes=2 * SHARD_BYTES)
    given = Assignment(
        entry=toy_loop.ENTRY,
        job=toy_loop.job(),
        servers=tuple(servers.handles),  # type: ignore[typeddict-item]  # a NamedTuple, sent as a plain tuple
        replicas=2,
        transport="shared_memory",
        round_timeout_s=60.0,
        device="cpu",
    )
    run_worker(given, 0)
    failure = servers.drain().failure
    assert failure is not None
    assert failure.kind == "ConfigError"
    assert failure.message.startswith("Invalid exchange='shared_memory' for replica 0: the head offers none")


@pytest.mark.parametrize("servers_used", [1, 2])
def test_a_restored_center_goes_on_with_its_momentum(start: Start, servers_used: int) -> None:
    rounds = Rounds()
    saved = alone_in_process(2, toy_loop.job(exchanges=4), rounds)
    tensors = {name: tensor.clone() for name, tensor in saved.tensors.items()}
    assert "velocity.0" in tensors
    saved = CenterState(tensors=tensors, step=saved.step, exchanges=saved.exchanges)
    servers = start(2, restored=saved, parameter_bytes=servers_used * SHARD_BYTES)
    run_all(servers, 2, toy_loop.job(exchanges=9))
    again = Rounds(Center.restored(tensors), saved.step, saved.exchanges)
    assert same(servers.center_state(), alone_in_process(2, toy_loop.job(exchanges=9), again))


@pytest.mark.parametrize("servers_used", [1, 2])
def test_replicas_that_pull_alone_do_not_wait_for_a_slow_one_until_they_are_too_far_ahead(
    start: Start, servers_used: int
) -> None:
    servers = start(2, parameter_bytes=servers_used * SHARD_BYTES)
    slow_goes_on = threading.Event()
    heard: list[tuple[int, int]] = []

    def pulls(replica: int) -> Generator[Message, Reply, None]:
        x = torch.full((7,), float(replica))
        reply = yield Message(kind="join", vectors=(x,), step=0, exchanges=0)
        for t in range(20):
            if replica == 1 and t == 1:
                assert slow_goes_on.wait(60)
            reply = yield Message(
                kind="elastic",
                vectors=(x,),
                step=t,
                exchanges=t,
                center_steps=(CenterStep(lr=0.25),),
                max_ahead=5,
            )
            heard.append((replica, reply.exchanges))
            if (replica, reply.exchanges) == (0, 6):
                slow_goes_on.set()

    def lives(replica: int) -> None:
        exchange = ServerExchange(servers.handles, replica, 2)
        drive(pulls(replica), exchange)
        exchange.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lives, range(2)))
    assert heard.index((0, 6)) < heard.index((1, 2)), "the fast one went on while the slow one did nothing"
    assert heard.index((1, 2)) < heard.index((0, 12)), "but not farther than allowed"
    center = servers.center_state().tensors["center.0"]
    assert 0.0 < float(center.min()) == float(center.max()) < 1.0, "all slices were pulled in one order"


def test_rows_and_members_reach_the_driver(start: Start) -> None:
    servers = start(2)
    run_all(servers, 2, toy_loop.job(exchanges=3))
    rows = servers.drain().rows
    assert sorted((row["event"], row["replica"]) for row in rows) == sorted(
        (event, replica)
        for replica in range(2)
        for event in ["joined", "finished", "end", "exchange", "exchange", "exchange"]
    )
    assert servers.drain().rows == []


@pytest.mark.parametrize(
    "saved", [CenterState(), CenterState(tensors={"center.0": torch.ones(5)})], ids=["new", "resumed"]
)
def test_one_replica_sends_nothing_but_its_rows(start: Start, saved: CenterState) -> None:
    servers = start(1, restored=saved)
    (exchange,) = run_all(servers, 1, toy_loop.job(exchanges=6))
    assert (exchange.meter.bytes_sent, exchange.meter.bytes_received) == (0, 0)
    assert same(exchange.center_state(), alone_in_process(1, toy_loop.job(exchanges=6), Rounds()))
    assert [row["event"] for row in servers.drain().rows] == ["joined", *["exchange"] * 6, "end", "finished"]


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_stop_reaches_all_replicas_at_one_exchange(start: Start, replicas: int) -> None:
    servers = start(replicas)
    running = threading.Thread(target=run_all, args=(servers, replicas, toy_loop.job(exchanges=10**6, pause_s=0.001)))
    running.start()
    while not any(row["event"] == "exchange" for row in servers.drain().rows):
        time.sleep(0.01)
    servers.request_stop()
    running.join()
    ends = [row["step"] for row in servers.drain().rows if row["event"] == "end"]
    assert len(ends) == replicas
    assert len(set(ends)) == 1


def test_an_error_in_one_replica_ends_the_others_and_comes_back_with_its_words(start: Start) -> None:
    servers = start(3)
    with pytest.raises(ExchangeError, match="Replica 1 failed: ValueError: a bug"):
        run_all(servers, 3, toy_loop.job(faults="1@15/before_exchange=raise(ValueError, a bug)"))
    failure = servers.drain().failure
    assert failure is not None
    error = revived(failure)
    assert str(error) == "Replica 1 failed: ValueError: a bug"
    assert "injection.py" in error.__notes__[0], "where it was raised"


def test_a_server_that_is_gone_is_a_clear_error(start: Start) -> None:
    servers = start(2)
    exchange = ServerExchange(servers.handles, 0, 2)
    threading.Timer(0.5, servers.close).start()
    with pytest.raises(ExchangeError, match=r"center server is gone.*Resume the run from its newest checkpoint"):
        exchange.exchange(Message(kind="join", vectors=(torch.zeros(3),), step=0, exchanges=0))
    with pytest.raises(ExchangeError, match="center server is gone"):
        servers.drain()


def test_the_process_that_was_replaced_is_told_to_end(start: Start) -> None:
    servers = start(2)
    join = Message(kind="join", vectors=(torch.zeros(3),), step=0, exchanges=0)
    old, other, new = (ServerExchange(servers.handles, replica, 2) for replica in (0, 1, 0))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda exchange: exchange.exchange(join), (old, other)))
    assert new.exchange(join).exchanges == 0
    with pytest.raises(ExchangeError, match="taken over by another process"):
        old.exchange(Message(kind="center", vectors=(torch.zeros(3),), step=5, exchanges=0))
    with pytest.raises(ExchangeError, match="taken over by another process"):
        old.exchange(join)  # that of a process that was slow to start
    for exchange in (old, other, new):
        exchange.close()


@pytest.mark.parametrize("place", [0, -1], ids=["at the head", "at another server"])
def test_weights_that_are_not_finite_are_refused_by_whichever_server_has_them(start: Start, place: int) -> None:
    servers = start(2, parameter_bytes=2 * SHARD_BYTES)
    well, ill = (ServerExchange(servers.handles, replica, 2) for replica in (0, 1))
    join = Message(kind="join", vectors=(torch.ones(4),), step=0, exchanges=0)
    vector = torch.ones(4)
    vector[place] = torch.nan
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda exchange: exchange.exchange(join), (well, ill)))
        said = Message(kind="center", vectors=(vector,), step=5, exchanges=0, center_steps=(CenterStep(),))
        with pytest.raises(StartAgainError):
            ill.exchange(said)
        reply = well.exchange(replace(said, vectors=(torch.full((4,), 3.0),)))
    assert (reply.exchanges, reply.members, reply.vectors[0].tolist()) == (1, 1, [3.0] * 4)
    assert ("quarantined", 1) in [(row["event"], row["replica"]) for row in servers.drain().rows]
    for exchange in (well, ill):
        exchange.close()


def test_the_process_that_is_replaced_while_it_waits_for_a_round_is_told_to_end(start: Start) -> None:
    servers = start(2)
    join = Message(kind="join", vectors=(torch.zeros(3),), step=0, exchanges=0)
    said = Message(kind="center", vectors=(torch.zeros(3),), step=5, exchanges=0, center_steps=(CenterStep(),))
    old, other, new = (ServerExchange(servers.handles, replica, 2) for replica in (0, 1, 0))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda exchange: exchange.exchange(join), (old, other)))
        waiting = pool.submit(old.exchange, said)
        time.sleep(0.5)  # it has spoken, and replica 1 has not
        assert new.exchange(join).exchanges == 0
        with pytest.raises(ExchangeError, match="taken over by another process"):
            waiting.result(timeout=30)
    for exchange in (old, other, new):
        exchange.close()
