"""The longer faults: phases of an exchange, silence, shards, a driver told to end, growth."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import cast

import pytest
import ray
from ray.actor import ActorHandle
from tests.faults import toy_loop
from tests.faults.processes import processes_of
from tests.faults.test_membership import SETTLED, Script, end, others_went_on, story
from tests.faults.test_replica_loss import exchanges_of, launched_apart, run
from tests.faults.toy_loop import Row

from deeprelax.exchange.server.servers import SHARD_BYTES
from deeprelax.execution.launch import Tolerance

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.parametrize("phase", ["before", "inside", "after"])
def test_replicas_killed_before_inside_and_after_an_exchange_hold_up_nobody(phase: str) -> None:
    job = toy_loop.job(exchanges=10**6, pause_s=0.005, faults=f"1@100/{phase}_exchange=kill")
    rows = run(job, 3, Script(("rejoined", 1, end)))
    assert story(rows) == [("lost", 1), ("rejoined", 1)]
    assert others_went_on(rows, "lost", "rejoined", 1) > SETTLED
    for replica in (0, 2):
        done = [row["exchanges"] for row in exchanges_of(rows, replica)]
        assert done == list(range(1, len(done) + 1))
    members = {row["exchanges"]: row["members"] for row in exchanges_of(rows, 0)}
    assert members[20] == (2 if phase == "before" else 3), "what it had sent counts, once"
    assert members[21] == 2


def test_ten_seconds_of_silence_cost_the_others_one_lease() -> None:
    def silence(pids: dict[int, int]) -> None:
        os.kill(pids[2], signal.SIGSTOP)
        threading.Timer(10.0, os.kill, (pids[2], signal.SIGCONT)).start()

    job = toy_loop.job(exchanges=10**6, pause_s=0.005)
    rows = run(job, 3, Script(("joined", 0, silence), ("rejoined", 2, end)))
    assert story(rows) == [("lost", 2), ("rejoined", 2)]
    assert others_went_on(rows, "lost", "rejoined", 2) > SETTLED
    ends = [(row["step"], row["sum"]) for row in rows if row["event"] == "end"]
    assert ends == [ends[0]] * 3


@pytest.mark.parametrize("name", ["ray::Head", "ray::Shard"])
def test_the_death_of_any_server_of_a_large_center_is_survived(name: str) -> None:
    def kill(_: dict[int, int]) -> None:
        (server,) = (pid for pid, command in processes_of(os.getsid(0)) if command.startswith(name))
        os.kill(server, signal.SIGKILL)

    # The vectors are large enough to travel through shared memory, which dies with the server that wrote it.
    job = toy_loop.job(exchanges=10**6, pause_s=0.005, size=500_000)
    script = Script(("joined", 0, kill), ("server_restarted", None, end))
    rows = run(job, 3, script, parameter_bytes=2 * SHARD_BYTES)
    assert story(rows) == [("server_restarted", None)]
    done = [row["exchanges"] for row in exchanges_of(rows, 0)]
    assert done == list(range(1, len(done) + 1))
    ends = [(row["step"], row["sum"]) for row in rows if row["event"] == "end"]
    assert ends == [ends[0]] * 3


def test_a_group_that_starts_again_survives_the_death_of_its_server() -> None:
    def kill(_: dict[int, int]) -> None:
        (server,) = (pid for pid, command in processes_of(os.getsid(0)) if command.startswith("ray::Head"))
        os.kill(server, signal.SIGKILL)

    job = toy_loop.job(exchanges=10**6, pause_s=0.005, kind="mean")
    rows = run(job, 2, Script(("joined", 0, kill), ("restarted", None, end)), Tolerance(elastic=False))
    assert "restarted" in {row["event"] for row in rows}
    ends = [(row["step"], row["sum"]) for row in rows if row["event"] == "end"]
    assert ends == [ends[0]] * 2


def test_a_driver_that_is_told_to_end_lets_the_replicas_save() -> None:
    process = launched_apart(pause_s=0.01, replicas=2)
    assert process.stdout is not None
    try:
        next(line for line in process.stdout if line.startswith("exchange"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "asked True"
    assert out.count("end ") == 2


class Others:
    """Holds CPUs of the cluster, as the work of somebody else does."""


def test_a_run_grows_from_one_to_four_replicas_and_shrinks_to_two_without_a_restart() -> None:
    first = ray.remote(num_cpus=3)(Others).remote()
    later = [first]
    members = [0]

    def grow(_: dict[int, int]) -> None:
        ray.kill(cast("ActorHandle[Others]", first))

    def shrink(pids: dict[int, int]) -> None:
        later.append(ray.remote(num_cpus=2)(Others).remote())  # waits for the room that the dead leave
        for replica in (1, 3):
            os.kill(pids[replica], signal.SIGKILL)

    def react(row: Row) -> None:
        if row["event"] == "exchange" and row["replica"] == 0:
            if row["members"] != members[-1]:
                members.append(int(str(row["members"])))
            script(row | {"event": f"{row['members']} members"})
        script(row)

    script = Script(("1 members", 0, grow), ("4 members", 0, shrink), ("2 members", 0, end))
    try:
        rows = run(toy_loop.job(exchanges=10**6, pause_s=0.005), 1, react, most=4)
    finally:
        for actor in later:
            ray.kill(cast("ActorHandle[Others]", actor))
    assert members[1] == 1
    assert max(members) == 4
    assert members[-1] == 2
    done = [row["exchanges"] for row in exchanges_of(rows, 0)]
    assert done == list(range(1, len(done) + 1)), "replica 0 missed nothing"
    came = [row["replica"] for row in rows if row["event"] == "joined"]
    assert came[0] == 0
    assert sorted(map(str, came)) == ["0", "1", "2", "3"], "each joined once, and only those that died were lost"
    assert {row["replica"] for row in rows if row["event"] == "lost"} == {1, 3}
    ends = [(row["replica"], row["step"], row["sum"]) for row in rows if row["event"] == "end"]
    assert {replica for replica, *_ in ends} == {0, 2}
    assert ends[0][1:] == ends[1][1:]
