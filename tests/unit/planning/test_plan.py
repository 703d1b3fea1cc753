"""The planner's formulas against step-by-step accounts of who sends what, and its bytes against a real run's."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deeprelax.cli import main
from deeprelax.coupling import Parle
from deeprelax.coupling.codec import read_codec
from deeprelax.errors import ConfigError
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.planning import CODECS, Cluster, Link, Plan, Prediction, plan
from deeprelax.planning.cluster import PAYLOAD
from deeprelax.planning.transports import node_ring, node_server, node_tree, ring, server, shared_memory, tree
from deeprelax.replica.replica import Replica, Steps

FLOAT32 = CODECS["float32"]
MEMORY = math.inf
SLOW = Link(bytes_per_s=1e6 / PAYLOAD, latency_s=0.02)  # a payload of 1 MB/s


def cluster(replicas: int, *, per_node: int = 1, servers: int = 1, link: Link = SLOW, copy: float = MEMORY) -> Cluster:
    return Cluster(replicas=replicas, replicas_per_node=per_node, link=link, servers=servers, copy_bytes_per_s=copy)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_takes_what_its_rounds_take(n: int) -> None:
    params, seconds, sent = 250_000 * n, 0.0, [0.0] * n
    for _ in range(2):  # once around to add, once around to hand out
        for _ in range(n - 1):
            for replica in range(n):
                sent[replica] += 4 * params / n
            seconds += 0.02 + (4 * params / n) / 1e6
    cost = ring(cluster(n), params, FLOAT32)
    assert cost.seconds == pytest.approx(seconds)
    assert cost.sent_bytes == pytest.approx(sent[0])


@pytest.mark.parametrize(("n", "per_node", "servers"), [(6, 1, 1), (6, 1, 3), (6, 3, 1), (6, 3, 6), (6, 2, 4)])
def test_a_server_is_as_slow_as_the_busiest_port(n: int, per_node: int, servers: int) -> None:
    ports = {f"node {node}": 0.0 for node in range(n // per_node)} | {f"server {s}": 0.0 for s in range(servers)}
    for replica in range(n):
        for s in range(servers):
            ports[f"node {replica // per_node}"] += 1e6 / servers
            ports[f"server {s}"] += 1e6 / servers
    once = 0.02 + max(ports.values()) / 1e6
    cost = server(cluster(n, per_node=per_node, servers=servers), 250_000, FLOAT32)
    assert cost.seconds == pytest.approx(2 * once)
    assert cost.link_bytes == per_node * 1e6


@pytest.mark.parametrize(("n", "per_node", "servers"), [(2, 1, 1), (6, 1, 3), (6, 2, 3), (6, 3, 2)])
def test_a_server_beside_replicas_hears_these_without_its_port(n: int, per_node: int, servers: int) -> None:
    ports = dict.fromkeys(range(n // per_node), 0.0)
    for replica in range(n):
        for server_node in range(servers):
            if replica // per_node != server_node:
                ports[replica // per_node] += 1e6 / servers
                ports[server_node] += 1e6 / servers
    beside = Cluster(replicas=n, replicas_per_node=per_node, link=SLOW, servers=servers, servers_beside=True)
    cost = server(beside, 250_000, FLOAT32)
    moving = cost.link_s + cost.server_s - beside.copies_s(250_000, 1.5 * n / servers)
    assert moving >= 2 * beside.transfer_s(max(ports.values())) * (1 - 1e-12)
    if servers < n // per_node:  # a node without server sends all it has
        assert moving == pytest.approx(2 * beside.transfer_s(max(ports.values())))


def test_servers_add_and_replicas_copy() -> None:
    cost = server(cluster(6, copy=1e6), 250_000, FLOAT32)
    assert cost.memory_s == pytest.approx(3.0)
    assert cost.server_s == pytest.approx(2 * 5.0 + 6 * 1.5), "five messages more than a replica's port has, and sums"


def test_a_tree_takes_the_fan_in_that_is_best() -> None:
    far = Link(bytes_per_s=math.inf, latency_s=1.0)
    thin = Link(bytes_per_s=1e6 / PAYLOAD)
    assert tree(cluster(64, link=far), 1e6, FLOAT32).seconds == 2.0, "one level if only latency counts"
    narrow = min(2 * levels * fan * 4.0 for levels, fan in ((6, 2), (3, 4), (2, 8), (1, 64)))
    assert tree(cluster(64, link=thin), 1e6, FLOAT32).seconds == pytest.approx(narrow)


def test_a_tree_grows_with_the_logarithm_of_the_replicas() -> None:
    costs = [tree(cluster(4**k), 1e6, FLOAT32).seconds for k in (2, 4, 6)]
    assert costs[1] - costs[0] == pytest.approx(costs[2] - costs[1])


def test_inside_nodes_one_vector_a_node_crosses_the_network() -> None:
    flat, deep = cluster(8, per_node=1), cluster(32, per_node=4)
    for whole, inner in ((node_ring, ring), (node_server, server), (node_tree, tree)):
        assert whole(deep, 1e6, FLOAT32).seconds == pytest.approx(inner(flat, 1e6, FLOAT32).seconds)
        assert whole(deep, 1e6, FLOAT32).link_bytes == inner(flat, 1e6, FLOAT32).link_bytes


def test_shared_memory_is_two_copies_and_an_average_of_slices() -> None:
    assert shared_memory(cluster(2, per_node=2, copy=4e6), 1e6).memory_s == pytest.approx(2.75)


@pytest.mark.parametrize(
    ("name", "text"), [("bf16", "bf16"), ("int8", "int8"), ("int4", "int4"), ("topk", "topk(0.01)")]
)
def test_a_codec_has_the_bytes_of_the_one_that_runs(name: str, text: str) -> None:
    real = read_codec(text)
    assert real is not None
    assert CODECS[name].bytes_per_parameter * 4096 == pytest.approx(real.nbytes(4096), rel=0.01)


def only(made: Plan, method: str, transport: str, *, codec: str = "float32", overlap: bool = False) -> Prediction:
    (one,) = [
        p
        for p in made.predictions
        if (p.method, p.transport, p.codec, p.overlap) == (method, transport, codec, overlap)
    ]
    return one


def asked(**changes: object) -> Plan:
    question: dict[str, object] = {"params": 1e6, "replicas": 4, "link": "100Mbit:20ms", "step_s": 0.1}
    return plan(**question | changes)  # type: ignore[arg-type]


def test_a_long_period_divides_bytes_and_waiting() -> None:
    made = asked(period=25)
    ddp, parle = only(made, "ddp", "ring"), only(made, "parle", "ring")
    assert ddp.sent_bytes == 25 * parle.sent_bytes
    computing = 1000 * 0.1
    copies_s = 40 * 9 * 4e6 / 10e9
    assert ddp.seconds - computing == pytest.approx(25 * (parle.seconds - computing - copies_s))
    assert parle.waiting == pytest.approx(1 - computing / parle.seconds)


def test_with_overlap_only_what_outlasts_the_period_is_waited_for() -> None:
    often, seldom = (asked(period=period, link="1Gbit:20ms", copy_bytes_per_s=1e18) for period in (1, 25))
    short, long = only(seldom, "parle", "server", overlap=True), only(often, "parle", "server", overlap=True)
    assert short.seconds == pytest.approx(100.0)
    assert short.bound == "compute"
    assert long.seconds == pytest.approx(1000 * long.exchange_s, rel=0.01)
    assert long.bound == "server"


def test_ddp_hides_its_gradients_behind_the_backward_pass() -> None:
    fast = asked(link="100Gbit", copy_bytes_per_s=1e18)
    assert only(fast, "ddp", "ring", overlap=True).seconds == pytest.approx(100.0)
    slow = asked(copy_bytes_per_s=1e18)
    plain, hidden = only(slow, "ddp", "ring"), only(slow, "ddp", "ring", overlap=True)
    assert plain.seconds - hidden.seconds == pytest.approx(1000 * 0.1 * 2 / 3)


def test_own_clocks_wait_for_servers_only_when_these_have_no_time_left() -> None:
    few = only(asked(replicas=4, period=50), "easgd_async", "server")
    many = only(asked(replicas=400, period=50), "easgd_async", "server")
    assert few.seconds < only(asked(replicas=4, period=50), "easgd", "server").seconds
    assert (few.bound, many.bound) == ("compute", "server")
    servers = only(asked(replicas=400, period=50, servers=100), "easgd_async", "server")
    assert servers.seconds == pytest.approx(few.seconds)


def test_every_bound_is_named() -> None:
    ways = {
        "compute": asked(step_s=100.0),
        "latency": asked(link="100Gbit:1s", step_s=1e-3),
        "link": asked(link="1Mbit", step_s=1e-3),
        "memory": asked(link="100000Gbit", step_s=1e-6, params=1e9),
    }
    for bound, made in ways.items():
        assert only(made, "parle", "ring").bound == bound
    assert only(asked(replicas=64, link="1Mbit", step_s=1e-3), "parle", "server").bound == "server"


def test_bytes_are_those_of_a_real_run() -> None:
    n, steps, model = 3, 50, nn.Linear(10, 7)
    params = sum(p.numel() for p in model.parameters())
    coupling = Parle(replicas=n, period=10, lr=0.1)
    replicas = [Replica(nn.Linear(10, 7), coupling, index=index, total_steps=steps) for index in range(n)]

    def loop(replica: Replica) -> Steps[None]:
        yield from replica.join()
        for _ in range(steps):
            yield from replica.step()

    meters = [Meter() for _ in range(n)]
    run_together([loop(replica) for replica in replicas], Rounds(), meters)
    size = sum(w.fast.numel() for w in replicas[0].weights)
    join_bytes = 4 * size
    predicted = only(asked(params=size, replicas=n, period=10, steps_per_pass=steps), "parle", "server")
    assert size - params < 64, "parameters are padded in memory"
    assert meters[0].bytes_sent - join_bytes == predicted.sent_bytes


@given(
    n=st.integers(2, 5000),
    per_node=st.integers(1, 16),
    servers=st.integers(1, 64),
    rate=st.floats(1e5, 1e11),
    latency=st.floats(0, 1),
    params=st.floats(1, 1e11),
    step=st.floats(1e-6, 100),
)
@settings(max_examples=60, deadline=None)
def test_every_plan_is_sound(
    n: int, per_node: int, servers: int, rate: float, latency: float, params: float, step: float
) -> None:
    link = Link(bytes_per_s=rate, latency_s=latency)
    question = {"params": params, "replicas": n, "replicas_per_node": min(n, per_node), "servers": servers}
    made = plan(**question, link=link, step_s=step)  # type: ignore[arg-type]
    worse = plan(**question, link=dataclasses.replace(link, latency_s=latency + 1), step_s=step)  # type: ignore[arg-type]
    seconds = [one.seconds for one in made.predictions]
    assert seconds == sorted(seconds)
    for one in made.predictions:
        assert 0 <= one.waiting < 1
        assert one.seconds >= 1000 * step * (1 - 1e-9)
        slower = only(worse, one.method, one.transport, codec=one.codec, overlap=one.overlap)
        assert slower.seconds >= one.seconds * (1 - 1e-9)
        if one.overlap:
            plain = only(made, one.method, one.transport, codec=one.codec)
            assert one.seconds <= plain.seconds * (1 + 1e-9)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"params": 0}, "Invalid params=0. Must be >= 1"),
        ({"params": math.nan}, "Invalid params"),
        ({"replicas": 1}, "Must be >= 2"),
        ({"step_s": 0.0}, "Invalid step_s"),
        ({"period": 0}, "Invalid period=0"),
        ({"steps_per_pass": 0}, "Invalid steps_per_pass"),
        ({"servers": 0}, "Invalid servers=0"),
        ({"servers": 999, "servers_beside": True}, "Invalid servers=999 beside replicas"),
        ({"replicas_per_node": 5}, "Must be <= replicas=4"),
        ({"copy_bytes_per_s": 0.0}, "Invalid copy_bytes_per_s"),
        ({"codecs": ["int9"]}, "Unknown codec 'int9'. Must be one of"),
        ({"methods": ["parl"]}, "Did you mean 'parle'"),
        ({"link": "fast"}, "100Mbit:20ms"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(**changes)
    assert says in str(caught.value)


def test_a_method_that_was_not_asked_for_has_no_best() -> None:
    with pytest.raises(ConfigError, match="No plan for 'ddp'"):
        asked(methods=["parle"]).best("ddp")


WORDS = ["plan", "--params", "1e6", "-n", "8", "--link", "100Mbit:20ms", "--step", "0.1s"]


def rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines()[1:-1]:
        yield line.split()


def test_the_table_is_sorted_and_names_the_fastest() -> None:
    ran = CliRunner().invoke(main, [*WORDS, "--top", "3"])
    assert ran.exit_code == 0, ran.output
    methods = [row[0] for row in rows(ran.output)]
    assert set(methods) == {"ddp", "diloco", "easgd", "easgd_async", "parle"}, "the best of each method is shown"
    assert ran.output.splitlines()[-1].startswith(f"Fastest: {methods[0]} over ")
    assert "…" not in ran.output


def test_json_holds_every_prediction() -> None:
    ran = CliRunner().invoke(main, [*WORDS, "--nodes", "4", "--json"])
    told = json.loads(ran.output)
    made = asked(replicas=8, replicas_per_node=2)
    assert told == json.loads(json.dumps(made.as_dict()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nodes", "3"], "Must divide --replicas 8"),
        (["--nodes", "2", "--replicas-per-node", "4"], "not both"),
        (["--step", "0.4"], "such as 20ms"),
        (["--copy", "much"], "Must be a rate"),
    ],
)
def test_the_command_refuses_with_one_line(words: list[str], says: str) -> None:
    ran = CliRunner().invoke(main, [*WORDS, *words])
    assert ran.exit_code == 2
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_planning_loads_nothing_heavy() -> None:
    code = (
        "import sys, deeprelax; deeprelax.plan(params=1e6, replicas=2, link='1Gbit', step_s=1);"
        "print({'torch', 'ray', 'numpy', 'pydantic'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert ran.stdout.strip() == "set()"
