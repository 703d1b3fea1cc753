"""`make demo`: Parle with 3 replicas on Ray, next to SGD at equal gradients, on real data.

The first SGD takes as many gradients as one replica (equal wall time on enough machines), the second as many as all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

import deeprelax
from deeprelax.coupling import Parle, Sgd

EPOCHS = 8
LR = "cos(0.1,0)"


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    title: str
    result: deeprelax.RunResult


def main() -> None:
    """Train, compare, say where the files are."""
    console = Console()
    began = time.monotonic()
    console.print("[bold]Parle: 3 replicas on Ray workers, weights exchanged once in 25 steps[/bold]")
    parle = deeprelax.fit("digits", coupling=Parle(replicas=3, period=25, gamma="exp(100,1)", lr=LR), epochs=EPOCHS)
    console.print("\n[bold]SGD with Nesterov momentum, one worker in this process[/bold]")
    equal_passes = deeprelax.fit("digits", coupling=Sgd(lr=LR), epochs=EPOCHS, local=True)
    equal_total = deeprelax.fit("digits", coupling=Sgd(lr=LR), epochs=3 * EPOCHS, local=True, evaluate_every=3)
    show(
        console,
        [
            Contender("Parle, 3 replicas", parle),
            Contender("SGD, as many a replica", equal_passes),
            Contender("SGD, as many in total", equal_total),
        ],
    )
    seconds = time.monotonic() - began
    console.print(f"\nOne seed, 355 test images: differences below 1 % are noise. {seconds:.0f} s in all.")
    console.print(f"The run's files: {parle.run_dir}", soft_wrap=True)
    console.print("Its weights: center.safetensors there, a plain state_dict.")
    console.print("Next: .venv/bin/deeprelax --help")


def show(console: Console, contenders: list[Contender]) -> None:
    """Print the comparison."""
    table = Table(title="digits: test error of one model", title_justify="left", box=None, header_style="bold")
    for heading in ("method", "test error", "test loss", "gradients", "exchanged"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for contender in contenders:
        metrics, cost = contender.result.metrics, contender.result.cost
        table.add_row(
            contender.title,
            f"{100 * metrics['center/error']:.2f} %",
            f"{metrics['center/loss']:.4f}",
            f"{cost['gradient_evaluations_total']:.0f}",
            f"{cost['bytes_exchanged'] / 1e6:.2f} MB",
        )
    console.print()
    console.print(table)


if __name__ == "__main__":
    main()
