"""``deeprelax plan``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from deeprelax.cli.root import main

if TYPE_CHECKING:
    from rich.table import Table

    from deeprelax.planning import Plan, Prediction

_FILE_WIDTH = 140
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


@main.command(context_settings={"show_default": True})
@click.option("--params", type=float, required=True, help="Parameters of the model, such as 1.3e9.")
@click.option("-n", "--replicas", type=int, required=True, help="Coupled replicas, or workers of DDP.")
@click.option("--link", required=True, metavar="RATE:LATENCY", help="Of each node, one way, such as 100Mbit:20ms.")
@click.option("--step", required=True, metavar="TIME", help="A mini-batch step without any exchange, such as 0.4s.")
@click.option("--period", type=int, help="L of all methods but DDP.  [default: each method's own]")
@click.option("--steps-per-pass", type=int, default=1000, help="Mini-batch steps of one replica in one data pass.")
@click.option("--replicas-per-node", type=int, help="Replicas that share a node's port.  [default: 1]")
@click.option("--nodes", type=int, help="Nodes, in place of --replicas-per-node.")
@click.option("--servers", type=int, default=1, help="Parameter servers, each on a node of its own.")
@click.option("--servers-beside", is_flag=True, help="The servers are on nodes of replicas instead.")
@click.option("--method", "methods", multiple=True, help="ddp, diloco, easgd, easgd_async, parle.  [default: all]")
@click.option("--codec", "codecs", multiple=True, help="float32, bf16, int8, int4, topk (1 %).  [default: all]")
@click.option("--copy", "copy_rate", default="10GB/s", metavar="RATE", help="A process copies memory at this rate.")
@click.option("--top", type=click.IntRange(min=1), default=20, help="Rows, beside the best one of each method.")
@click.option("--json", "as_json", is_flag=True, help="Print every prediction as one JSON object.")
def plan(
    params: float,
    replicas: int,
    link: str,
    step: str,
    period: int | None,
    steps_per_pass: int,
    replicas_per_node: int | None,
    nodes: int | None,
    servers: int,
    servers_beside: bool,
    methods: tuple[str, ...],
    codecs: tuple[str, ...],
    copy_rate: str,
    top: int,
    as_json: bool,
) -> None:
    """Predict seconds per data pass, bytes and waiting of DDP and of coupled replicas, over a link.

    Every method makes the same number of steps on every replica, so the table compares them at equal gradients; it says
    nothing about accuracy. Stragglers, lost packets and other traffic are not in the model.

    \b
    Examples:
      deeprelax plan --params 1.3e9 --replicas 64 --link 100Mbit:20ms --step 0.4s
      deeprelax plan --params 1.3e9 -n 4096 --replicas-per-node 8 --link 10Gbit:1ms --step 0.4s --codec int8
    """
    from deeprelax.planning import plan as make
    from deeprelax.planning import read_rate, read_seconds

    made = make(
        params=params,
        replicas=replicas,
        link=link,
        step_s=read_seconds(step),
        period=period,
        steps_per_pass=steps_per_pass,
        replicas_per_node=_per_node(replicas, replicas_per_node, nodes),
        servers=servers,
        servers_beside=servers_beside,
        methods=methods,
        codecs=codecs,
        copy_bytes_per_s=read_rate(copy_rate),
    )
    if as_json:
        click.echo(json.dumps(made.as_dict()))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(_table(made, _shown(made, top)))
    console.print(_verdict(made), soft_wrap=True)


def _per_node(replicas: int, replicas_per_node: int | None, nodes: int | None) -> int:
    from deeprelax.errors import ConfigError

    if nodes is None:
        return 1 if replicas_per_node is None else replicas_per_node
    if replicas_per_node is not None:
        raise ConfigError("Give --nodes or --replicas-per-node, not both.")
    if not 1 <= nodes <= replicas or replicas % nodes:
        raise ConfigError(f"Invalid --nodes {nodes}. Must divide --replicas {replicas}.")
    return replicas // nodes


def _shown(made: Plan, top: int) -> list[Prediction]:
    """Return the fastest predictions and, further down, the best of every method that runs can go now."""
    from deeprelax.planning.transports import BUILT

    first = list(made.predictions[:top])
    for one in made.predictions[top:]:
        if one.transport in BUILT and one.method not in {shown.method for shown in first if shown.transport in BUILT}:
            first.append(one)
    return first


def _table(made: Plan, shown: list[Prediction]) -> Table:
    from rich.table import Table

    from deeprelax.planning.transports import BUILT

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("method", "L", "transport", "codec", "overlap"):
        table.add_column(title, justify="right" if title == "L" else "left", no_wrap=True)
    for title in ("s/pass", "waiting", "sent/replica", "over a link"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for one in shown:
        table.add_row(
            one.method,
            str(one.period),
            one.transport if one.transport in BUILT else f"{one.transport} *",
            one.codec,
            "yes" if one.overlap else "",
            _seconds(one.seconds),
            f"{100 * one.waiting:.1f} %",
            _bytes(one.sent_bytes),
            _bytes(one.link_bytes),
            one.bound,
            style="bold" if one is made.fastest else "",
        )
    return table


def _seconds(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def _bytes(number: float) -> str:
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return "0"


def _verdict(made: Plan) -> str:
    best = made.fastest
    methods = {one.method for one in made.predictions}
    against = ""
    if "ddp" in methods and best.method != "ddp":
        against = f", {made.best('ddp').seconds / best.seconds:.3g} times as fast as the best DDP"
    words = f"{best.method} over {best.transport} with {best.codec}{', overlapped' if best.overlap else ''}"
    return f"Fastest: {words}{against}; bound by {best.bound}. What is marked * could be built, and runs cannot use it."
