"""What a person sees of a run: a live table on a terminal, one line an evaluation elsewhere, on standard error."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deeprelax.config import RunConfig

Numbers = Mapping[str, float]
_ROWS = 12


@dataclass(frozen=True)
class _Column:
    """A column of the table."""

    title: str
    name: str
    write: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _short(value: float) -> str:
    return f"{value:.4g}"


_COLUMNS = (
    _Column("epoch", "passes", lambda value: f"{value:.1f}"),
    _Column("center error", "center/error", _percent),
    _Column("loss", "train/loss", _short),
    _Column("spread", "replica/spread", _short),
    _Column("γ", "coupling/gamma", _short),
    _Column("ρ", "coupling/rho", _short),
    _Column("exchanged", "exchange/bytes_total", lambda value: f"{value / 1e6:.2f} MB"),
    _Column("gradients/s", "speed", lambda value: f"{value:.0f}"),
    _Column("left", "left_s", lambda value: str(timedelta(seconds=round(value)))),
)


class _Pace:
    """Gradients per second of all replicas and the seconds left, from the first number seen on."""

    def __init__(self, config: RunConfig) -> None:
        self._total = config.steps or 1
        self._replicas = config.make_coupling().replicas
        self._first: tuple[float, float] | None = None

    def of(self, row: Numbers) -> dict[str, float]:
        step, seconds = row.get("step", 0.0), row.get("seconds", 0.0)
        if self._first is None:
            self._first = (step, seconds)
        steps, elapsed = step - self._first[0], seconds - self._first[1]
        if steps <= 0 or elapsed <= 0:
            return {}
        return {"speed": steps * self._replicas / elapsed, "left_s": (self._total - step) * elapsed / steps}


class PlainProgress:
    """One line an evaluation."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self._console = console
        self._pace = _Pace(config)

    def moved(self, row: Numbers) -> None:
        """Follow the pace."""
        self._pace.of(row)

    def evaluated(self, row: Numbers) -> None:
        """Write the line."""
        full = {**row, **self._pace.of(row)}
        words = [f"{column.title} {column.write(full[column.name])}" for column in _COLUMNS if _known(full, column)]
        self._console.print("  ".join(words), highlight=False, soft_wrap=True)

    def happened(self, text: str) -> None:
        """Write the text."""
        self._console.print(text, highlight=False, soft_wrap=True)


class TableProgress:
    """A live table: an evaluation a row, and a last row that follows the run."""

    def __init__(self, config: RunConfig, console: Console) -> None:
        self._pace = _Pace(config)
        self._rows: list[Numbers] = []
        self._now: Numbers = {}
        self._notes: list[str] = []
        self.live = Live(self._render(), console=console, refresh_per_second=4, transient=False)

    def moved(self, row: Numbers) -> None:
        """Move the last row, once the run is past the last evaluation."""
        if self._rows and row["step"] <= self._rows[-1]["step"]:
            return
        self._now = {**row, **self._pace.of(row)}
        self.live.update(self._render())

    def evaluated(self, row: Numbers) -> None:
        """Add a row."""
        self._rows.append({**row, **self._pace.of(row)})
        self._now = {}
        self.live.update(self._render())

    def happened(self, text: str) -> None:
        """Add a note below the table."""
        self._notes.append(text)
        self.live.update(self._render())

    def _render(self) -> RenderableType:
        shown = [*self._rows[-_ROWS:], *([self._now] if self._now else [])]
        columns = [column for column in _COLUMNS if any(_known(row, column) for row in shown)]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.title, justify="right")
        for row in shown:
            table.add_row(*(column.write(row[column.name]) if _known(row, column) else "" for column in columns))
        waiting = [] if shown else [Text("waiting for the first exchange …", style="dim")]
        return Group(table, *waiting, *(Text(note, style="yellow") for note in self._notes[-3:]))


class Silence:
    """Shows nothing."""

    def moved(self, row: Numbers) -> None:
        """Show nothing."""

    def evaluated(self, row: Numbers) -> None:
        """Show nothing."""

    def happened(self, text: str) -> None:
        """Show nothing."""


@contextmanager
def progress(config: RunConfig, *, show: bool = True) -> Iterator[PlainProgress | TableProgress | Silence]:
    """Yield the display that suits standard error."""
    if not show:
        yield Silence()
        return
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield PlainProgress(config, console)
        return
    table = TableProgress(config, console)
    with table.live:
        yield table


def _known(row: Numbers, column: _Column) -> bool:
    return column.name in row and not math.isnan(row[column.name])
