"""Fashion-MNIST: test error of the center against what it cost, method by method.

    python benchmarks/fashion_mnist.py --seeds 3            the table; finished runs are kept, stopped ones go on
    python benchmarks/fashion_mnist.py --tune --samples 10000   the learning rates, on 5,000 held-out training samples

Every method makes the same number of data passes per replica from the same initial weights and, per seed, in the same
order of samples. LR is the trainable's own rate for all: --tune compares three, and has not been run to choose them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

import click
from rich.console import Console
from rich.table import Table

import deeprelax
from deeprelax import RunResult
from deeprelax.coupling import Coupling, Diloco, LocalSgd, Parle, Sgd
from deeprelax.errors import CheckpointError

METHODS: Mapping[str, Coupling] = {
    "sgd, 1 worker": Sgd(replicas=1),
    "sgd, 3 workers": Sgd(replicas=3),
    "local_sgd": LocalSgd(replicas=3, period=25),
    "diloco": Diloco(replicas=3, period=25),
    "parle, same start": Parle(replicas=3, period=25, start="same"),
    "parle, independent": Parle(replicas=3, period=25, start="independent"),
}
LR = dict.fromkeys(METHODS, 0.05)
GRID = (0.025, 0.05, 0.1)
VALIDATION = 5_000

console = Console(width=118)


def train(coupling: Coupling, config: Mapping[str, object], epochs: float, seed: int, root: Path) -> RunResult:
    """Return the result of this run: a finished one as it is, a stopped one continued, otherwise a new one.

    Raises:
        Abort: Ctrl-C; the run is saved.
    """
    what = json.dumps([coupling.model_dump(mode="json"), config, epochs], sort_keys=True)
    path = root / f"{coupling.method()}-{hashlib.sha256(what.encode()).hexdigest()[:8]}-seed{seed}"
    result = finished(path) or resumed(path) or deeprelax.fit(
        "fashion_mnist", coupling=coupling, config=config, epochs=epochs, seed=seed, local=True, threads=1,
        run_dir=path, keep_checkpoints=1, report=("replicas", "ensemble"), show_progress=False,
    )  # fmt: skip
    if result.stopped:
        raise click.Abort
    return result


def finished(path: Path) -> RunResult | None:
    """Return the result of a run that has ended, if it has."""
    if not (path / "result.json").exists():
        return None
    result = deeprelax.load_result(path)
    return None if result.stopped else result


def resumed(path: Path) -> RunResult | None:
    """Return the result of a run that was stopped and goes on now; None if there is none."""
    try:
        return deeprelax.resume(path, show_progress=False)
    except CheckpointError:  # killed before its first checkpoint
        (path / "config.json").unlink(missing_ok=True)
        return None


def row(name: str, lr: float, results: Sequence[RunResult]) -> tuple[str, ...]:
    """Return the cells of one method: mean and standard error over the seeds."""
    cost = results[0].cost
    return (
        name,
        f"{lr:g}",
        spread([100 * result.metrics["center/error"] for result in results]),
        spread([result.metrics["center/loss"] for result in results], digits=4),
        spread([100 * result.metrics["replicas/error_mean"] for result in results]),
        spread([100 * result.metrics["ensemble/error"] for result in results]),
        f"{cost['bytes_exchanged'] / 1e6:,.0f}",
        f"{cost['gradient_evaluations_per_replica']:,.0f}",
        f"{cost['gradient_evaluations_total']:,.0f}",
        str(len(results)),
    )


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean and, from two values on, its standard error."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values) / len(values) ** 0.5:.{digits}f}"


def new_table(title: str) -> Table:
    """Return the empty table."""
    columns = ("method", "lr", "error %", "loss", "replicas %", "ensemble %", "MB", "gradients", "in total", "seeds")
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    return table


@click.command(context_settings={"show_default": True})
@click.option("--seeds", default=1, help="Seeds 0 .. this - 1.")
@click.option("--first-seed", default=0, help="The first of the seeds.")
@click.option("--epochs", default=10.0, help="Data passes of each replica.")
@click.option("--samples", type=int, help="Train on a fixed subset of this many samples.  [default: all]")
@click.option("--only", multiple=True, help="Methods whose name begins so.")
@click.option("--tune", is_flag=True, help=f"Compare the learning rates {GRID} on {VALIDATION} held-out samples.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/benchmark"), help="Folder of the runs.")
def main(
    seeds: int, first_seed: int, epochs: float, samples: int | None, only: tuple[str, ...], tune: bool, runs: Path
) -> None:
    """Train every method and print the table after each."""
    config: Mapping[str, object] = {"samples": samples} | ({"validation": VALIDATION} if tune else {})
    table = new_table(f"Fashion-MNIST, {epochs:g} data passes per replica" + (", validation" if tune else ", test"))
    for name, coupling in METHODS.items():
        if only and not name.startswith(only):
            continue
        for lr in GRID if tune else (LR[name],):
            chosen = coupling.with_fields(lr=f"cos({lr},0)")
            results = [train(chosen, config, epochs, first_seed + seed, runs) for seed in range(seeds)]
            table.add_row(*row(name, lr, results))
            console.print(table)


if __name__ == "__main__":
    main()
