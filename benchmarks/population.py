"""Digits: settings adapted across the replicas of one run against the same settings kept fixed.

    python benchmarks/population.py --seeds 5

Parle with 3 replicas, equal gradients for all rows of a seed, all in this process. The rates are the trainable's own,
twice as large, and 8 times too small. The last column is the mean of the paired differences of the test loss to the
fixed run of the same rate and seed, with its standard error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev

import click
from rich.console import Console
from rich.table import Table

import deeprelax
from deeprelax import RunResult
from deeprelax.coupling import Parle

RATES = (0.1, 0.05, 0.00625)
ADAPTED: Mapping[str, tuple[str, ...] | None] = {
    "fixed": None,
    "adapt lr": ("lr",),
    "adapt lr,gamma,rho": ("lr", "gamma", "rho"),
}

console = Console(width=118)


def train(lr: float, knobs: tuple[str, ...] | None, epochs: float, every: int, seed: int, folder: Path) -> RunResult:
    population = None if knobs is None else {"knobs": knobs, "every": every}
    return deeprelax.fit(
        "digits", coupling=Parle(replicas=3, period=5, lr=f"cos({lr},0)"), epochs=epochs, seed=seed, local=True,
        threads=1, population=population, run_dir=folder, checkpoint_every=0, evaluate_every=epochs,
        show_progress=False,
    )  # fmt: skip


def spread(values: list[float], digits: int) -> str:
    """Return the mean and its standard error."""
    return f"{mean(values):.{digits}f} ± {stdev(values) / len(values) ** 0.5:.{digits}f}"


@click.command(context_settings={"show_default": True})
@click.option("--seeds", type=click.IntRange(min=2), default=5, help="Seeds 0 .. this - 1.")
@click.option("--epochs", default=10.0, help="Data passes of each replica.")
@click.option("--every", default=4, help="Exchanges between two decisions.")
def main(seeds: int, epochs: float, every: int) -> None:
    """Train every row with every seed and print the table."""
    table = Table(title=f"digits, Parle with 3 replicas, {epochs:g} data passes, {seeds} seeds")
    for column in ("lr", "settings", "error %", "test loss", "gradients", "loss - fixed"):
        table.add_column(column, justify="left" if column == "settings" else "right")
    for lr in RATES:
        fixed: list[float] = []
        for name, knobs in ADAPTED.items():
            with tempfile.TemporaryDirectory() as folder:
                runs = [train(lr, knobs, epochs, every, seed, Path(folder) / str(seed)) for seed in range(seeds)]
            losses = [run.metrics["center/loss"] for run in runs]
            fixed = fixed or losses
            difference = [loss - other for loss, other in zip(losses, fixed, strict=True)]
            table.add_row(
                f"{lr:g}",
                name,
                spread([100 * run.metrics["center/error"] for run in runs], 2),
                spread(losses, 4),
                f"{runs[0].cost['gradient_evaluations_total']:.0f}",
                "" if knobs is None else spread(difference, 4),
            )
    console.print(table)


if __name__ == "__main__":
    main()
