"""Real faults of a run on Ray Train: a killed worker, a raised error, a dead server, Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from tests.faults import toy_loop
from tests.faults.processes import processes_of
from tests.faults.toy_loop import Row

from deeprelax.errors import AdmissionError, ConfigError, DeepRelaxError, DivergedError, ExchangeError
from deeprelax.execution.cluster import Placement
from deeprelax.execution.launch import Tolerance, launch

ROOT = Path(__file__).resolve().parents[2]


def run(
    job: dict[str, object],
    replicas: int,
    react: Callable[[Row], None],
    tolerance: Tolerance | None = None,
    most: int | None = None,
    parameter_bytes: int = 0,
) -> list[Row]:
    """Run replicas to their end; return all rows."""
    rows: list[Row] = []

    def take(row: Row) -> None:
        rows.append(row)
        react(row)

    placement = Placement(replicas=replicas, most=most)
    launch(job, placement, tolerance or Tolerance(), take, entry=toy_loop.ENTRY, parameter_bytes=parameter_bytes)
    return rows


class Enough:
    """Presses Ctrl-C once the replacements of some replicas have made some exchanges."""

    def __init__(self, exchanges: int, *replicas: int) -> None:
        self.exchanges = exchanges
        self.refused: set[object] = set()
        self.rejoined: set[object] = set()
        self.since: dict[object, list[Row]] = {replica: [] for replica in replicas}

    def __call__(self, row: Row) -> None:
        if row["event"] == "quarantined":
            self.refused.add(row["replica"])
        elif row["event"] == "rejoined" and row["replica"] in self.refused:  # in the same process
            self.refused.remove(row["replica"])
        elif row["event"] == "rejoined":
            self.rejoined.add(row["replica"])
        if row["event"] != "exchange" or row["replica"] not in self.rejoined & self.since.keys():
            return
        before = self.enough
        self.since[row["replica"]].append(row)
        if self.enough and not before:
            os.kill(os.getpid(), signal.SIGINT)

    @property
    def enough(self) -> bool:
        return all(len(rows) >= self.exchanges for rows in self.since.values())


def exchanges_of(rows: list[Row], replica: int) -> list[Row]:
    return [row for row in rows if row["event"] == "exchange" and row["replica"] == replica]


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_killed_and_poisoned_replicas_start_again_from_the_center_while_the_others_go_on() -> None:
    enough = Enough(20, 1, 2)
    faults = "2@100/before_exchange=poison; 1@300/before_exchange=kill; 2@400/inside_exchange=kill"
    rows = run(toy_loop.job(exchanges=10**6, pause_s=0.005, faults=faults), 3, enough)
    events = [(row["event"], row["replica"]) for row in rows if row["event"] in {"lost", "rejoined", "quarantined"}]
    assert events[:2] == [("quarantined", 2), ("rejoined", 2)]
    assert sorted(events[2:]) == [("lost", 1), ("lost", 2), ("rejoined", 1), ("rejoined", 2)]
    for replica in (1, 2):
        *_, lost, rejoined = (
            row["exchanges"] for row in rows if row["event"] in {"lost", "rejoined"} and row["replica"] == replica
        )
        assert isinstance(lost, int)
        assert isinstance(rejoined, int)
        assert rejoined > lost + 10, "the others went on while the replacement started"
        first = enough.since[replica][0]["exchanges"]
        assert first == rejoined + 1, "it took part from the round that was open"
    done = [row["exchanges"] for row in exchanges_of(rows, 0)]
    assert done == list(range(1, len(done) + 1)), "who was never lost missed nothing"
    assert exchanges_of(rows, 0)[-1]["members"] == 3
    ends = [(row["step"], row["sum"]) for row in rows if row["event"] == "end"]
    assert ends == [ends[0]] * 3
    assert all(math.isfinite(float(str(value))) for _, sums in ends for value in cast("list[float]", sums))
    report_gap(rows)


def report_gap(rows: list[Row]) -> None:
    """Write, for whoever looks, what the loss cost the others."""
    times = [float(str(row["time"])) for row in exchanges_of(rows, 0)]
    gap = max(after - before for before, after in pairwise(times))
    sys.stderr.write(f"largest gap between two exchanges of a survivor: {gap:.2f} s\n")


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_without_elasticity_the_whole_group_starts_again(tmp_path: Path) -> None:
    faults = f"once_in={tmp_path}; 1@500/after_exchange=kill"  # rows of 100 exchanges have reached the driver
    job = toy_loop.job(exchanges=10**6, pause_s=0.005, kind="mean", faults=faults)
    rows = run(job, 2, Enough(5, 1), Tolerance(elastic=False))
    assert [row["event"] for row in rows].count("restarted") == 1
    for replica in range(2):
        done = exchanges_of(rows, replica)
        first, again = dict.fromkeys(row["pid"] for row in done)
        assert first != again
        since = [row["exchanges"] for row in done if row["pid"] == again]
        assert since == list(range(1, len(since) + 1)), "there is no checkpoint to go back to"
        assert {row["members"] for row in done} == {2}


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_too_many_losses_end_the_run_with_a_clear_error() -> None:
    job = toy_loop.job(exchanges=10**6, faults="0@25/after_exchange=kill")
    with pytest.raises(DeepRelaxError, match=r"Replica 0 was lost after max_failures=0 .* newest checkpoint"):
        run(job, 1, lambda _: None, Tolerance(max_failures=0))


@pytest.mark.usefixtures("ray_cluster")
def test_an_error_of_a_replica_comes_back_as_it_was_and_is_not_tried_again() -> None:
    starts: list[Row] = []
    job = toy_loop.job(faults="1@20/before_exchange=raise(DivergedError, lr too large)")
    with pytest.raises(DivergedError, match=r"^lr too large$"):
        run(job, 2, lambda row: starts.append(row) if row["event"] == "joined" else None)
    assert len(starts) == 2


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_dead_server_ends_the_run_with_a_clear_error() -> None:
    def kill_server(row: Row) -> None:
        if row["event"] == "joined":
            (server,) = (pid for pid, command in processes_of(os.getsid(0)) if command.startswith("ray::Head"))
            os.kill(server, signal.SIGKILL)

    with pytest.raises(ExchangeError, match="center server is gone"):
        run(toy_loop.job(exchanges=10**6, pause_s=0.005), 1, kill_server, Tolerance(servers_return=False))


@pytest.mark.usefixtures("ray_cluster")
def test_replicas_that_do_not_fit_the_cluster_are_refused() -> None:
    with pytest.raises(AdmissionError, match=r"Invalid replicas=9\. .* room for 4; missing: 5 CPU"):
        launch({}, Placement(replicas=9), Tolerance(), lambda _: None)


@pytest.mark.usefixtures("ray_cluster")
def test_an_address_beside_the_cluster_in_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="connected to a cluster already"):
        launch({}, Placement(replicas=2, address="auto"), Tolerance(), lambda _: None)


@pytest.mark.parametrize(
    ("placement", "error", "words"),
    [
        (Placement(replicas=2, address="127.0.0.1:1"), ConfigError, "Connection refused.*HOST:PORT"),
        (Placement(replicas=2, address="ray://127.0.0.1:10001"), ConfigError, "no HOST:PORT"),
        (Placement(replicas=10**4), AdmissionError, "Invalid replicas=10000.*takes at most"),
    ],
    ids=["nobody there", "not an address", "more than the machine takes"],
)
def test_what_cannot_run_is_refused_before_anything_starts(
    placement: Placement, error: type[DeepRelaxError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(error, match=words):
        launch({}, placement, Tolerance(), lambda _: None)


SCRIPT = """
import sys
from deeprelax import env
env.pin(loopback=True)
from deeprelax.execution.cluster import Placement
from deeprelax.execution.launch import Tolerance, launch
from tests.faults import toy_loop

def take(row):
    print(row["event"], row["replica"], flush=True)

job = toy_loop.job(exchanges=10**6, pause_s=float(sys.argv[1]))
print("asked", launch(job, Placement(replicas=int(sys.argv[2])), Tolerance(), take, entry=toy_loop.ENTRY), flush=True)
"""


def launched_apart(pause_s: float, replicas: int) -> subprocess.Popen[str]:
    """Run in a process group of its own, as a shell does."""
    paths = [ROOT, *(ROOT / name for name in ("platform", "trainables", "search_spaces"))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(pause_s), str(replicas)],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def start_and_interrupt(pause_s: float, replicas: int, presses: int) -> tuple[int, str, str, list[tuple[int, str]]]:
    """Run apart and press Ctrl-C during training."""
    process = launched_apart(pause_s, replicas)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("joined" if pause_s > 1 else "exchange"):
                break
        for _ in range(presses):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(1.0)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    deadline = time.monotonic() + 20
    while processes_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    return process.returncode, out, err, processes_of(process.pid)


def test_ctrl_c_lets_the_replicas_reach_their_next_exchange_and_leaves_nothing_behind() -> None:
    code, out, err, left = start_and_interrupt(pause_s=0.01, replicas=2, presses=1)
    assert (code, left) == (0, []), err
    assert out.splitlines()[-1] == "asked True"
    assert out.count("end ") == 2
    assert err == ""


@pytest.mark.long
def test_a_second_ctrl_c_aborts_and_leaves_nothing_behind() -> None:
    code, _, err, left = start_and_interrupt(pause_s=1000.0, replicas=1, presses=2)
    assert code != 0
    assert left == [], err
    assert err.splitlines()[-1] == "KeyboardInterrupt"
