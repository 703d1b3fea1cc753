"""Replicas and servers that die, hang or go mad, one after another in one run; the others go on.

Nothing here asserts a time: that others did not wait shows in what they completed meanwhile.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from tests.faults import toy_loop
from tests.faults.processes import processes_of
from tests.faults.test_replica_loss import exchanges_of, report_gap, run
from tests.faults.toy_loop import Row

from deeprelax.execution.launch import Tolerance

SETTLED = 10
"""Exchanges between the end of one fault and the next."""


class Script:
    """Does one thing after another, each some exchanges of replica 0 after the event that ended the last one.

    Args:
        acts: (event, replica to which it happens or None for any, what to do then).
    """

    def __init__(self, *acts: tuple[str, int | None, Callable[[dict[int, int]], None]]) -> None:
        self._acts = list(acts)
        self._due: int | None = None
        self._pids: dict[int, int] = {}

    def __call__(self, row: Row) -> None:
        exchanges = row.get("exchanges", 0)
        assert isinstance(exchanges, int)
        if row["event"] == "exchange":
            self._pids[int(str(row["replica"]))] = int(str(row["pid"]))
            if self._due is not None and row["replica"] == 0 and exchanges >= self._due:
                self._due = None
                self._acts.pop(0)[2](self._pids)
        elif self._due is None and self._awaited(row):
            self._due = exchanges + SETTLED

    def _awaited(self, row: Row) -> bool:
        return bool(self._acts) and self._acts[0][:2] in ((row["event"], row.get("replica")), (row["event"], None))


def kill_server(_: dict[int, int]) -> None:
    (server,) = (pid for pid, command in processes_of(os.getsid(0)) if command.startswith("ray::Head"))
    os.kill(server, signal.SIGKILL)


def send(number: signal.Signals, replica: int) -> Callable[[dict[int, int]], None]:
    """Return what sends a signal to a replica's process."""
    return lambda pids: os.kill(pids[replica], number)


def end(_: dict[int, int]) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def story(rows: list[Row]) -> list[tuple[object, object]]:
    """Return what happened to whom, from the first exchange on."""
    told = {"lost", "rejoined", "quarantined", "server_restarted", "leaving", "left"}
    return [(row["event"], row.get("replica")) for row in rows if row["event"] in told]


def others_went_on(rows: list[Row], start: str, finish: str, replica: int) -> int:
    """Return the exchanges between two events of a replica."""
    (first,) = [row["exchanges"] for row in rows if (row["event"], row.get("replica")) == (start, replica)]
    (last,) = [row["exchanges"] for row in rows if (row["event"], row.get("replica")) == (finish, replica)]
    assert isinstance(first, int)
    assert isinstance(last, int)
    return last - first


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_goes_on_through_poison_a_dead_server_a_replica_that_hangs_and_one_that_is_taken_away() -> None:
    job = toy_loop.job(exchanges=10**6, pause_s=0.005, faults="1@100/before_exchange=poison")
    script = Script(
        ("rejoined", 1, kill_server),
        ("server_restarted", None, send(signal.SIGSTOP, 2)),
        ("lost", 2, send(signal.SIGCONT, 2)),
        ("rejoined", 2, send(signal.SIGTERM, 1)),
        ("rejoined", 1, end),
    )
    rows = run(job, 3, script, Tolerance(lease_s=3.0))
    assert story(rows) == [
        ("quarantined", 1),
        ("rejoined", 1),
        ("server_restarted", None),
        ("lost", 2),
        ("rejoined", 2),
        ("leaving", 1),
        ("left", 1),
        ("rejoined", 1),
    ]
    saved = {(row["replica"], row["step"]) for row in rows if row["event"] == "saved"}
    assert {replica for replica, _ in saved} == {0, 1, 2}, "all saved with the one that left"
    assert len({step for _, step in saved}) == 1
    done = [row["exchanges"] for row in exchanges_of(rows, 0)]
    assert done == list(range(1, len(done) + 1)), "replica 0 missed nothing, not even the round the server died in"
    assert others_went_on(rows, "lost", "rejoined", 2) > SETTLED
    ends = [(row["step"], row["sum"]) for row in rows if row["event"] == "end"][-3:]
    assert ends == [ends[0]] * 3
    assert str(ends[0]).count("nan") == 0
    report_gap(rows)
