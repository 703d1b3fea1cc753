"""``deeprelax simulate``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from deeprelax.cli.root import assigned, main

if TYPE_CHECKING:
    from rich.table import Table

    from deeprelax.simulation import Simulation

_PICTURE = "simulation.svg"


@main.command(context_settings={"show_default": True})
@click.option("-c", "--coupling", default="parle", help="Method; 'deeprelax couplings list' shows all.")
@click.option("-n", "--replicas", default="2000", metavar="N,…", help="Values of n; one stands for its eighths too.")
@click.option("--steps", type=int, default=1000, help="Mini-batch steps of every run.")
@click.option("--period", metavar="SCHEDULE", help="L.  [default: the coupling's own]")
@click.option("--lag", default="0", metavar="EXCHANGES", help="How late messages are: 3, const(3) or exp(2).")
@click.option("--loss", default="quadratic", help="quadratic, f1 (many local minima) or f2 (two wells).")
@click.option("--dimension", type=int, default=10, help="Parameters of each replica.")
@click.option("--noise", type=float, default=1.0, help="Standard deviation of a gradient in each coordinate.")
@click.option("--start", type=float, default=2.0, help="Every coordinate at the start.")
@click.option("--lr", default="0.05", metavar="SCHEDULE", help="Step of the fast weights.")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="A field of the coupling; repeatable.")
@click.option("--target", type=float, help="Error that counts as reached.  [default: a hundredth of the start's]")
@click.option("--seed", type=int, default=0, help="Seed of all that is drawn.")
@click.option("--plots", metavar="DIR", help=f"Draw the runs into DIR/{_PICTURE}; needs matplotlib.")
@click.option("--json", "as_json", is_flag=True, help="Print the runs as one JSON object on standard output.")
def simulate(
    coupling: str,
    replicas: str,
    steps: int,
    period: str | None,
    lag: str,
    loss: str,
    dimension: int,
    noise: float,
    start: float,
    lr: str,
    assignments: tuple[str, ...],
    target: float | None,
    seed: int,
    plots: str | None,
    as_json: bool,
) -> None:
    """Train thousands of light replicas with the library's own coupling and see what n, L, springs and lag do.

    The error is f(x̄) - min f of the center. Where the replicas sit in one bowl its noise averages out, and the error
    falls like 1/n; a lag, a long period or several wells set a floor.

    \b
    Examples:
      deeprelax simulate --coupling parle --replicas 2000
      deeprelax simulate -c elastic_sgd -n 2,20,200 --lag 'exp(2)' --set rho=0.5
      deeprelax simulate --loss f2 --lr 0.01 --plots pictures
    """
    from deeprelax import pictures
    from deeprelax.simulation import simulate as run

    folder = None if plots is None else pictures.prepare(plots)
    fields = assigned(assignments, "--set") | ({} if period is None else {"period": period})
    done = run(
        coupling,
        replicas=_counts(replicas),
        steps=steps,
        loss=loss,
        dimension=dimension,
        noise=noise,
        start=start,
        lag=lag,
        lr=lr,
        target=target,
        seed=seed,
        watch=None if as_json else lambda track: click.echo(f"n = {track.replicas} done", err=True),
        **fields,
    )
    if as_json:
        click.echo(json.dumps(done.as_dict()))
    else:
        from rich.console import Console

        console = Console(file=sys.stdout, highlight=False)
        console.print(_table(done))
        console.print(_verdict(done), soft_wrap=True)
    if folder is not None:
        from deeprelax.pictures.simulation import draw

        file = pictures.save(folder / _PICTURE, lambda figure: draw(figure, done), "deeprelax simulate --plots")
        click.echo(f"drew {file}", err=True)


def _counts(text: str) -> int | list[int]:
    from deeprelax.errors import ConfigError

    try:
        counts = [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"Invalid --replicas {text!r}. Must be whole numbers, such as 2000 or 2,20,200.") from None
    return counts[0] if len(counts) == 1 else counts


def _table(done: Simulation) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("replicas", "center error", "spread", "steps to target"):
        table.add_column(title, justify="right", no_wrap=True)
    for track in done.tracks:
        reached = "never" if track.reached is None else str(track.reached)
        table.add_row(str(track.replicas), f"{track.error:.4g}", f"{track.spread:.4g}", reached)
    return table


def _verdict(done: Simulation) -> str:
    order = "" if done.order is None else f" It falls like n^{done.order:.2f}."
    return (
        f"Center error: f(x̄) - min f, mean over the last quarter; {done.start:.4g} at the start, target"
        f" {done.target:.4g}.{order}"
    )
