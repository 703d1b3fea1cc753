"""Time to a test error over a slow link: Parle on a Ray cluster of two nodes against torch's DDP, in one run. As root.

    python -m benchmarks.slow_link                          100 Mbit/s and 20 ms, about 15 minutes
    python -m benchmarks.slow_link --link 1Gbit:5ms --hidden 256

Both train the same network from the same weights, see the same samples in the same order, and are judged equally often
on the same test set. The clock starts when the processes are ready for their first step; start-up is not in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import click
from benchmarks.run import console, machine
from benchmarks.shaped_link import End, shaped_link
from rich.table import Table

from deeprelax.planning import plan, read_link
from deeprelax.registry import find

PERIOD = 25
COMMON = (f"period={PERIOD}", "start=same")
DDP = "DDP (gloo)"
BAR = 0.1
"""Share of DDP's time."""

START_S = 120
"""Seconds for a node to start."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One contender, and how the plan calls it.

    Args:
        settings: of the coupling.
        codec: of the plan.
        overlap: of the plan.
    """

    settings: Sequence[str] = ()
    codec: str = "float32"
    overlap: bool = False


ENTRIES: Mapping[str, Entry] = {
    "Parle": Entry(),
    "Parle, int8": Entry(settings=("codec=int8",), codec="int8"),
    "Parle, int8, overlap": Entry(settings=("codec=int8", "overlap=10"), codec="int8", overlap=True),
}

COMMON = (f"period={PERIOD}", "start=same")
DDP = "DDP (gloo)"
BAR = 0.1
"""Share of DDP's time."""

START_S = 120
"""Seconds for a node to start."""

METHODS: Mapping[str, Sequence[str]] = {
    "Parle": (),
    "Parle, int8": ("codec=int8",),
    "Parle, int8, overlap": ("codec=int8", "overlap=10"),
}


@dataclass(frozen=True, kw_only=True)
class Race:
    """What all contenders train.

    Args:
        config: of ``fashion_mnist``.
        lr: constant learning rate.
        steps: of each worker at most.
        every: steps between two evaluations, a multiple of the period.
        target: test error.
        steps_per_pass: of a worker.
    """

    config: Mapping[str, object]
    lr: float
    steps: int
    every: int
    target: float
    steps_per_pass: int


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How a contender did.

    Args:
        name: its own.
        evaluations: rows of ``step``, ``seconds`` since the start, ``error``.
        step_s: seconds a step, exchange included and evaluations not.
    """

    name: str
    evaluations: Sequence[Mapping[str, float]]
    step_s: float

    def reached(self, target: float) -> Mapping[str, float] | None:
        """Return the first evaluation at the target or below it."""
        return next((row for row in self.evaluations if row["error"] <= target), None)


def ddp(race: Race, ends: Sequence[End]) -> tuple[Finish, float]:
    """Return how DDP does, and the seconds of a step without any exchange on this machine."""
    workers = [subprocess.Popen(
        end.command(
            sys.executable, "-m", "benchmarks.ddp_peer", "--config", json.dumps(race.config), "--lr", str(race.lr),
            "--steps", str(race.steps), "--every", str(race.every), "--target", str(race.target),
        ),
        env=os.environ | {
            "RANK": str(rank), "WORLD_SIZE": str(len(ends)), "MASTER_ADDR": ends[0].address, "MASTER_PORT": "29500",
            "GLOO_SOCKET_IFNAME": end.device,
        },
        stdout=subprocess.PIPE, text=True,
    ) for rank, end in enumerate(ends)]  # fmt: skip
    said = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise click.ClickException("DDP failed; its own words are above.")
    rows = [json.loads(line) for line in said[0].splitlines()]
    facts = {name: value for row in rows for name, value in row.items() if len(row) == 1}
    return Finish(name=DDP, evaluations=rows[1:-1], step_s=facts["step_s"]), facts["alone_s"]


def coupled(name: str, race: Race, ends: Sequence[End], folder: Path) -> Finish:
    """Return how a coupling does on the Ray cluster at the ends, by the command that a user types."""
    options = {
        "--coupling": "parle", "--replicas": str(len(ends)), "--steps": str(race.steps), "--threads": "1",
        "--evaluate-every": str(race.every / race.steps_per_pass), "--checkpoint-every": "0",
        "--address": f"{ends[0].address}:6379", "--run-dir": str(folder),
    }  # fmt: skip
    settings = [word for field in (*COMMON, f"lr={race.lr}", *ENTRIES[name].settings) for word in ("--set", field)]
    config = [word for field, value in race.config.items() for word in ("--config", f"{field}={value}")]
    words = [word for option in options.items() for word in option]
    deeprelax = str(Path(sys.executable).with_name("deeprelax"))
    command = ends[0].command(deeprelax, "fit", "fashion_mnist", *words, *settings, *config)
    if subprocess.run(command, check=False).returncode:
        raise click.ClickException(f"{name} failed; its own words are above.")
    return read(name, folder)


def read(name: str, folder: Path) -> Finish:
    """Return what the logs of a run say."""
    rows = [json.loads(line) for log in sorted(folder.glob("*.jsonl")) for line in log.read_text().splitlines()]
    start = max(row["seconds"] for row in rows if row["event"] == "joined")
    said = [(row["step"], row["seconds"]) for row in rows if row["event"] == "telemetry" and row["replica"] == 1]
    evaluations = [
        {"step": row["step"], "seconds": row["seconds"] - start, "error": row["center/error"]}
        for row in rows
        if row["event"] == "evaluation"
    ]
    # The median leaves out the exchanges at which replica 0 judges the center while the others wait.
    step_s = median((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairwise(said))
    return Finish(name=name, evaluations=evaluations, step_s=step_s)


@contextmanager
def cluster(ends: Sequence[End]) -> Iterator[None]:
    """Hold a Ray cluster with a node of one core at each end."""
    head, other = ends
    ray = Path(sys.executable).with_name("ray")
    common = ["--num-cpus", "1", "--disable-usage-stats", "--block"]
    env = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # else a node joins on its head's machine only
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for end, role in (
            (head, ["--head", "--port", "6379", "--include-dashboard", "false"]),
            (other, ["--address", f"{head.address}:6379"]),
        ):
            command = end.command(str(ray), "start", *role, "--node-ip-address", end.address, *common)
            nodes.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            _wait_for_nodes(head, len(nodes))
        yield
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait()


def _wait_for_nodes(head: End, count: int) -> None:
    """Wait until so many nodes have joined."""
    look = f"""
import socket, time
for _ in range({START_S}):
    try:
        socket.create_connection(("{head.address}", 6379), timeout=5).close()
        break
    except OSError:
        time.sleep(1)
import ray
ray.init(address="{head.address}:6379", logging_level="ERROR", log_to_driver=False)
for _ in range({START_S}):
    if sum(node["Alive"] for node in ray.nodes()) == {count}:
        break
    time.sleep(1)
else:
    raise SystemExit("A node of the Ray cluster has not started.")
"""
    subprocess.run(head.command(sys.executable, "-c", look), check=True)


def planned(race: Race, link: str, alone_s: float) -> Mapping[str, float]:
    """Return the seconds of a step that `deeprelax plan` predicts for each contender."""
    model = find("fashion_mnist").build(race.config).model()
    params = sum(parameter.numel() for parameter in model.parameters())
    made = plan(
        params=params, replicas=2, link=link, step_s=alone_s, period=PERIOD, servers_beside=True,
        methods=("ddp", "parle"), steps_per_pass=PERIOD,
    )  # fmt: skip
    found = {(one.method, one.transport, one.codec, one.overlap): one.seconds / PERIOD for one in made.predictions}
    told = {name: found["parle", "server", entry.codec, entry.overlap] for name, entry in ENTRIES.items()}
    return {DDP: found["ddp", "ring", "float32", True], **told}


def show(race: Race, peer: Finish, finishes: Sequence[Finish], plans: Mapping[str, float]) -> None:
    """Print who reached the target when, and what the plan had said."""
    columns = ("", "ms a step", "planned", "steps", "seconds to the target", "of DDP's", "bar")
    table = Table(title=f"Test error {race.target:.0%}")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    base = peer.reached(race.target)
    for finish in (peer, *finishes):
        row = finish.reached(race.target)
        share = row["seconds"] / base["seconds"] if row and base else None
        table.add_row(
            finish.name,
            f"{1e3 * finish.step_s:.0f}",
            f"{1e3 * plans[finish.name]:.0f} ({plans[finish.name] / finish.step_s - 1:+.0%})",
            f"{row['step']:.0f}" if row else "not reached",
            f"{row['seconds']:.1f}" if row else "",
            f"{share:.3f}" if share else "",
            "" if finish is peer or not share else f"{BAR} {'ok' if share <= BAR else 'MISSED'}",
        )
    console.print(table)


@click.command(context_settings={"show_default": True})
@click.option("--link", default="100Mbit:20ms", help="Bandwidth and latency, each way.")
@click.option("--hidden", default=2048, help="Units of the dense layer.")
@click.option("--lr", default=0.05, help="Learning rate of both, constant.")
@click.option("--steps", default=400, help="Of each worker at most.")
@click.option("--every", default=50, help=f"Steps between two evaluations, a multiple of {PERIOD}.")
@click.option("--target", default=0.14, help="Test error.")
def main(link: str, hidden: int, lr: float, steps: int, every: int, target: float) -> None:
    """Run both over the link and print the table."""
    config = {"hidden": hidden, "width": 8, "batch_size": 128}
    race = Race(config=config, lr=lr, steps=steps, every=every, target=target, steps_per_pass=-(-60_000 // 128))
    console.print(machine() | vars(race) | {"link": link})
    with shaped_link(read_link(link)) as ends, tempfile.TemporaryDirectory() as folder:
        peer, alone_s = ddp(race, ends)
        console.print(f"Without exchange a step takes {1e3 * alone_s:.1f} ms, DDP {1e3 * peer.step_s:.1f} ms.")
        with cluster(ends):
            finishes = [coupled(name, race, ends, Path(folder) / str(number)) for number, name in enumerate(ENTRIES)]
    show(race, peer, finishes, planned(race, link, alone_s))


if __name__ == "__main__":
    main()
