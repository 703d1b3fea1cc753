"""What ``make bench`` runs: every figure a ratio within one run, next to what memory traffic allows.

python -m benchmarks.run --only step --threads 1
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Literal

import click
import torch
from benchmarks.codec import codec_rows
from benchmarks.exchange import exchange_rows
from benchmarks.loop import loop_rows
from benchmarks.measure import COLUMNS, How, Row
from benchmarks.stacked import stacked_rows
from benchmarks.startup import startup_rows
from benchmarks.step import BAR_SIZE, SIZES, coupling_rows, parle_rows
from benchmarks.sweep import sweep_rows
from rich.console import Console
from rich.table import Table

from deeprelax.execution.store import environment

BENCHMARKS: dict[str, Callable[[How], list[Row]]] = {
    "startup": startup_rows,
    "step": lambda how: [row for size in SIZES for row in parle_rows(size, how)],
    "couplings": lambda how: coupling_rows(BAR_SIZE, how),
    "loop": loop_rows,
    "exchange": exchange_rows,
    "sweep": sweep_rows,
    "stacked": stacked_rows,
    "codec": codec_rows,
}

console = Console(width=110)


def machine() -> dict[str, object]:
    """Return processor, load, threads, versions and commit: without them a figure means nothing."""
    return environment() | {
        "processor": _processor(),
        "load_1min": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def show(rows: list[Row]) -> None:
    """Print one table a group."""
    for group, members in groupby(rows, key=lambda row: row.group):
        table = Table(title=group, title_justify="left")
        for i, column in enumerate(COLUMNS):
            table.add_column(column, justify="right" if i else "left")
        for row in members:
            table.add_row(*row.cells())
        console.print(table)


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    models = [line.partition(": ")[2] for line in file.read_text().splitlines() if line.startswith("model name")]
    return models[0] if models else platform.processor()


@click.command(context_settings={"show_default": True})
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Some of the benchmarks.")
@click.option("--threads", type=int, help="Torch threads.  [default: torch's own]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", help="cpu: for one thread, machine busy.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/bench.json"), help="Raw times.")
def main(only: tuple[str, ...], threads: int | None, device: str, clock: Literal["wall", "cpu"], out: Path) -> None:
    """Measure, print the tables, write the raw times."""
    if threads:
        torch.set_num_threads(threads)
    how = How(device=device, clock=clock)
    described = machine() | asdict(how)
    console.print(described)
    rows: list[Row] = []
    for name in only or BENCHMARKS:
        found = BENCHMARKS[name](how)
        show(found)
        rows += found
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": described, "rows": [asdict(row) for row in rows]}, indent=1))
    console.print(f"Raw times: {out}")


if __name__ == "__main__":
    main()
