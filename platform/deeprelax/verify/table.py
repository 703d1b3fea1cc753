"""The theory's checks as a table that fills while they run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.live import Live
from rich.table import Table

from deeprelax.pde.checks import Verdict, run_checks


def verify(seed: int, only: Iterable[str] | None) -> list[Verdict]:
    """Run the checks, show each verdict on standard error as it falls, and return them all.

    Args:
        seed: of everything drawn at random.
        only: rows such as ``T7``; None = all.

    Raises:
        ConfigError: a row does not exist.
    """
    verdicts: list[Verdict] = []
    with Live(_table([]), console=Console(file=sys.stderr), refresh_per_second=4) as live:
        for _, found in run_checks(seed, only=only):
            verdicts += found
            live.update(_table(verdicts))
    return verdicts


def report(verdicts: list[Verdict]) -> dict[str, object]:
    """Return the verdicts as plain JSON values."""
    failed = sum(not verdict.passed for verdict in verdicts)
    return {"passed": len(verdicts) - failed, "failed": failed, "verdicts": [asdict(verdict) for verdict in verdicts]}


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("row")
    table.add_column("claim", max_width=72)
    table.add_column("measured", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("verdict")
    for verdict in verdicts:
        word = "[green]holds[/green]" if verdict.passed else "[red]FAILS[/red]"
        table.add_row(verdict.key, verdict.claim, f"{verdict.measured:.3g}", f"{verdict.bound:.3g}", word)
    return table
