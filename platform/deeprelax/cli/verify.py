"""``deeprelax verify``."""

from __future__ import annotations

import json
import sys

import click

from deeprelax.cli.root import main

_STOPPED = 130


@main.command(context_settings={"show_default": True})
@click.option(
    "--only", multiple=True, metavar="ROW,…", help="Rows of the table, such as T7 or T1,T2; repeatable.  [default: all]"
)
@click.option("--list", "as_list", is_flag=True, help="List the rows and run none.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of everything drawn at random.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Seeds to run each row with, from --seed on.")
@click.option("--plots", metavar="DIR", help="Draw the pictures of the theory into DIR, as SVG; needs matplotlib.")
@click.option(
    "--markdown", metavar="FILE", help="Write the table between the marks of FILE, as docs/theory.md has them."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as one JSON object on standard output.")
def verify(
    only: tuple[str, ...],
    as_list: bool,
    seed: int,
    seeds: int,
    plots: str | None,
    markdown: str | None,
    as_json: bool,
) -> None:
    """Check the theory behind the couplings against closed forms and quadratures in low dimension.

    \b
    Examples:
      deeprelax verify                          every row, in about a minute
      deeprelax verify --only T7,T9 --seeds 3   two rows, each with three seeds
      deeprelax verify --plots pictures         draws them too

    Exits with code 1 if a claim fails.
    """
    from deeprelax.verify import ROWS, title

    names = [name.strip() for word in only for name in word.split(",")] if only else None
    if as_list:
        titles = {row: title(check) for row, check in ROWS.items()}
        click.echo(json.dumps(titles) if as_json else "\n".join(f"{row:<5} {about}" for row, about in titles.items()))
        return
    try:
        _run(names, range(seed, seed + seeds), plots, markdown, as_json=as_json)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(_STOPPED)


def _run(names: list[str] | None, seeds: range, plots: str | None, page: str | None, *, as_json: bool) -> None:
    from rich.console import Console

    from deeprelax.pde.checks import select
    from deeprelax.verify import ROWS, markdown, pictures, progress, report, summary, verify

    # What can be refused is refused before anything takes time.
    checks = select(names, ROWS)
    folder = None if plots is None else pictures.prepare(plots)
    if page is not None:
        markdown.page_parts(page)
    with progress(checks, seeds, Console(file=sys.stderr)) as watcher:
        results = verify(names, seeds=seeds, watcher=watcher, rows=ROWS)
    files = [] if folder is None else pictures.draw_pictures(folder, results)
    if page is not None:
        markdown.write_page(page, results)
    whole = report(results)
    if as_json:
        click.echo(json.dumps(whole | {"plots": [str(file) for file in files]}))
    else:
        for file in files:
            click.echo(f"drew {file}", err=True)
        click.echo(summary(results))
    if whole["failed"]:
        sys.exit(1)
