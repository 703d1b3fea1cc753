"""What fewer bytes cost in accuracy: one method with each codec, the same seeds, against float32.

python -m benchmarks.frugal --seeds 5      # Fashion-MNIST, Parle; finished runs are kept, stopped ones go on
python -m benchmarks.frugal --trainable digits --coupling diloco --seeds 3 --epochs 5 --overlap 3
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import click
from benchmarks.fashion_mnist import finished, resumed, spread
from rich.console import Console
from rich.table import Table

import deeprelax
from deeprelax import RunResult
from deeprelax.coupling import Coupling, make_coupling

PLAIN = "float32"
COLUMNS = ("codec", "overlap", "error %", "minus float32 %", "loss", "MB", "of float32", "seeds")

console = Console(width=118)


def train(trainable: str, coupling: Coupling, epochs: float, seed: int, root: Path) -> RunResult:
    """Return the result of this run: a finished one as it is, a stopped one continued, otherwise a new one.

    Raises:
        Abort: Ctrl-C; the run is saved.
    """
    name = f"{trainable}-{coupling.method()}-{coupling.model_dump()['codec']}-{coupling.overlap}-{epochs:g}-seed{seed}"
    path = root / name
    result = finished(path) or resumed(path) or deeprelax.fit(
        trainable, coupling=coupling, epochs=epochs, seed=seed, local=True, threads=1, run_dir=path,
        keep_checkpoints=1, show_progress=False,
    )  # fmt: skip
    if result.stopped:
        raise click.Abort
    return result


def row(codec: str, overlap: int, results: Sequence[RunResult], plain: Sequence[RunResult]) -> tuple[str, ...]:
    """Return the cells of one codec: mean and standard error over the seeds, differences seed by seed."""
    errors, others = ([100 * result.metrics["center/error"] for result in runs] for runs in (results, plain))
    spent, most = (mean(result.cost["bytes_exchanged"] for result in runs) for runs in (results, plain))
    return (
        codec,
        str(overlap),
        spread(errors),
        spread([one - other for one, other in zip(errors, others, strict=True)]),
        spread([result.metrics["center/loss"] for result in results], digits=4),
        f"{spent / 1e6:,.2f}",
        f"{spent / most:.3f}",
        str(len(results)),
    )


@click.command(context_settings={"show_default": True})
@click.option("--trainable", default="fashion_mnist", help="What is trained.")
@click.option("--coupling", "method", default="parle", help="The method.")
@click.option("--replicas", default=3, help="Coupled copies.")
@click.option("--codec", "codecs", multiple=True, default=("int8",), help="Codecs that are compared with float32.")
@click.option("--overlap", default=0, help="Steps that overlap with an exchange, of the coded runs.")
@click.option("--seeds", default=5, help="Seeds 0 .. this - 1.")
@click.option("--epochs", default=10.0, help="Data passes of each replica.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/frugal"), help="Folder of the runs.")
def main(
    trainable: str,
    method: str,
    replicas: int,
    codecs: tuple[str, ...],
    overlap: int,
    seeds: int,
    epochs: float,
    runs: Path,
) -> None:
    """Train every codec with every seed and print the table after each."""
    table = Table(title=f"{trainable}, {method}, {epochs:g} data passes per replica")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "codec" else "right")
    plain: list[RunResult] = []
    for codec, steps in ((PLAIN, 0), *((codec, overlap) for codec in codecs)):
        coupling = make_coupling(method, {"replicas": replicas, "codec": codec, "overlap": steps})
        results = [train(trainable, coupling, epochs, seed, runs) for seed in range(seeds)]
        plain = plain or results
        table.add_row(*row(codec, steps, results, plain))
        console.print(table)


if __name__ == "__main__":
    main()
