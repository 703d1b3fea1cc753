"""What a person sees while the checks run: a table on a terminal, one line a verdict elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deeprelax.pde.checks import Check, Verdict
from deeprelax.verify.reporting import bound, number
from deeprelax.verify.rows import title
from deeprelax.verify.run import RowResult, Watcher

_WIDEST = 130
# Lines of the screen that a list of waiting rows leaves free: the running row, the line below the list, the cursor.
_RESERVED = 4
_HOLDS, _FAILS = "holds", "FAILS"


class PlainProgress:
    """One line a verdict, written when its row has ended."""

    def __init__(self, names: Sequence[str], console: Console) -> None:
        self._width = max(map(len, names))
        self._console = console

    def started(self, row: str, seed: int) -> None:
        """Write nothing: a log is read afterwards."""

    def ended(self, result: RowResult) -> None:
        """Write the lines."""
        for verdict in result.verdicts:
            self._console.print(self._line(result, verdict), highlight=False, markup=False, soft_wrap=True)

    def _line(self, result: RowResult, verdict: Verdict) -> str:
        word = _HOLDS if verdict.passed else _FAILS
        detail = f"  ({verdict.detail})" if verdict.detail else ""
        measured = f"{number(verdict.measured)} {bound(verdict)}"
        start = f"{result.row:<{self._width}} {result.seconds:6.1f} s  seed {result.seed}  {word}"
        return f"{start}  {measured:<22}  {verdict.claim}{detail}"


class TableProgress:
    """A table that grows: rows that ended stay above, the running one and those that wait are redrawn below them."""

    def __init__(self, titles: Sequence[tuple[str, str]], console: Console) -> None:
        """Take the console and the rows to come as (name, title), in their order."""
        self._console = console
        self._waiting = list(titles)
        self._name_width = max(len(name) for name, _ in titles)
        self._running: tuple[str, str] | None = None
        self._since = time.monotonic()
        self.live = Live(console=console, get_renderable=self._below, refresh_per_second=4, transient=True)

    def started(self, row: str, seed: int) -> None:
        """Move the row from the waiting ones to the running one."""
        del row, seed
        self._running = self._waiting.pop(0)
        self._since = time.monotonic()
        self.live.refresh()

    def ended(self, result: RowResult) -> None:
        """Write the row's verdicts above the rest, for good."""
        assert self._running is not None, "a row ends after it started"
        name, _ = self._running
        table = self._table(header=False)
        for place, verdict in enumerate(result.verdicts):
            first = place == 0
            word = Text(_HOLDS, style="green") if verdict.passed else Text(_FAILS, style="bold red")
            claim = Text(verdict.claim)
            if verdict.detail and not verdict.passed:
                claim.append(f"\n{verdict.detail}", style="dim")
            table.add_row(
                name if first else "",
                claim,
                number(verdict.measured),
                bound(verdict),
                word,
                _seconds(result.seconds) if first else "",
            )
        self._running = None
        self._console.print(table)

    def head(self) -> RenderableType:
        """Return the names of the columns."""
        return self._table(header=True)

    def _table(self, *, header: bool) -> Table:
        """Return an empty table; all have columns of the same widths, so that one below another reads as one."""
        table = Table(
            box=None,
            pad_edge=False,
            header_style="bold",
            show_header=header,
            expand=True,
            width=min(self._console.width, _WIDEST),
        )
        table.add_column("row", width=self._name_width, no_wrap=True)
        table.add_column("claim", ratio=1)
        table.add_column("measured", width=9, justify="right")
        table.add_column("bound", width=10, justify="right")
        table.add_column("verdict", width=7)
        table.add_column("time", width=7, justify="right")
        return table

    def _below(self) -> RenderableType:
        table = self._table(header=False)
        if self._running is not None:
            name, about = self._running
            table.add_row(
                name, _cut(about), "", "", Text("running", style="yellow"), _seconds(time.monotonic() - self._since)
            )
        room = max(1, self._console.height - _RESERVED)
        for name, about in self._waiting[:room]:
            table.add_row(name, _cut(about), "", "", "waiting", "", style="dim")
        hidden = len(self._waiting) - room
        return Group(table, Text(f"… and {hidden} more", style="dim")) if hidden > 0 else table


def _cut(about: str) -> Text:
    return Text(about, no_wrap=True, overflow="ellipsis")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"


@contextmanager
def progress(checks: Mapping[str, Check], seeds: Sequence[int], console: Console) -> Iterator[Watcher]:
    """Yield the display that suits the console.

    Args:
        checks: the rows that will run, in their order.
        seeds: the seeds each will run with.
        console: where it is shown.
    """
    if not console.is_terminal:
        yield PlainProgress(list(checks), console)
        return
    named = [
        (f"{row} seed {seed}" if len(seeds) > 1 else row, title(check))
        for row, check in checks.items()
        for seed in seeds
    ]
    table = TableProgress(named, console)
    console.print(table.head())
    with table.live:
        yield table
