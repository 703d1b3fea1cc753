"""``deeprelax verify``."""

from __future__ import annotations

import json
import sys

import click

from deeprelax.cli.root import main


@main.command(context_settings={"show_default": True})
@click.option(
    "--only", multiple=True, metavar="ROW", help="A row of the table, such as T7; repeatable.  [default: all]"
)
@click.option("--seed", type=int, default=0, help="Seed of everything drawn at random.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as one JSON object on standard output.")
def verify(only: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Check the theory behind the couplings against closed forms and quadratures in low dimension.

    Exits with code 1 if a claim fails.
    """
    from deeprelax import verify as checks

    verdicts = checks.verify(seed, only or None)
    summary = checks.report(verdicts)
    click.echo(json.dumps(summary) if as_json else f"{summary['passed']} hold, {summary['failed']} fail")
    if summary["failed"]:
        sys.exit(1)
