"""What a person sees of a sweep: a live table on a terminal, a line a finished trial elsewhere, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deeprelax.config import RunConfig
from deeprelax.tuning.sweep.outcome import Outcome, Result

_ROWS = 8
_SHARES = ("error", "accuracy")


@dataclass(frozen=True)
class Row:
    """A trial that has ended.

    Args:
        number: in the study.
        outcome: how.
        values: of the objectives; those it reported last if it did not finish.
        parameters: of its coupling, as text.
        seconds: its runs were computing.
        why: it did not finish.
    """

    number: int
    outcome: Outcome
    values: Mapping[str, float]
    parameters: str
    seconds: float | None
    why: str

    @property
    def short(self) -> str:
        """Return the first line of why, without the rule that stands after the semicolon."""
        return self.why.partition("\n")[0].partition("; ")[0]

    def words(self) -> list[str]:
        """Return the parts of the row's line."""
        numbers = [f"{name} {written(name, value)}" for name, value in self.values.items()]
        seconds = [] if self.seconds is None else [f"{self.seconds:.1f} s"]
        return [*numbers, *seconds, *filter(None, [self.parameters, self.short])]


@dataclass
class Board:
    """Collects what happens and knows the time left.

    Args:
        metrics: the objectives.
        trials: of the study in all.
        done: that had their outcome when this driver began.
        count: returns the number of trials by outcome, over all drivers.
        best: returns the best trial so far as text, over all drivers.
        ends: value of the monotonic clock at which the sweep stops, or None.
    """

    metrics: tuple[str, ...]
    trials: int
    done: int
    count: Callable[[], Mapping[str, int]]
    best: Callable[[], str]
    ends: float | None = None
    rows: list[Row] = field(default_factory=list)
    running: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._began: float | None = None

    def begun(self, number: int) -> None:
        """Take note of a trial that begins."""
        self._began = self._began or time.monotonic()
        self.running.add(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> Row:
        """Take note of a trial that has ended, and return its row."""
        self.running.discard(number)
        values = {name: float(v) for name in self.metrics if isinstance(v := result.get(name), int | float)}
        seconds = result.get("seconds")
        row = Row(
            number=number,
            outcome=outcome,
            values=values,
            parameters="" if requested is None else parameters_of(requested),
            seconds=seconds if isinstance(seconds, float) else None,
            why=why,
        )
        self.rows.append(row)
        return row

    def left_s(self, done: int) -> float | None:
        """Return the seconds left, by the pace of all drivers since the first trial of this one began."""
        to_deadline = None if self.ends is None else max(0.0, self.ends - time.monotonic())
        if self._began is None or done <= self.done:
            return to_deadline
        pace = (time.monotonic() - self._began) / (done - self.done)
        by_pace = max(0, self.trials - done) * pace
        return by_pace if to_deadline is None else min(by_pace, to_deadline)


class Lines:
    """One line a trial that has ended; infeasible ones are not shown."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._console = console

    def begun(self, number: int) -> None:
        """Show nothing."""
        self._board.begun(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:
        """Write the line."""
        row = self._board.ended(number, outcome, why, result, requested)
        if outcome != "infeasible":
            words = "  ".join([f"trial {number}", outcome, *row.words()])
            self._console.print(words, highlight=False, soft_wrap=True, markup=False)


class LiveTable:
    """A live table: the outcomes, the best trial so far, the last trials, the time left."""

    def __init__(self, board: Board, console: Console) -> None:
        self._board = board
        self._refresh()
        self.live = Live(get_renderable=self.render, console=console, refresh_per_second=2, transient=False)

    def begun(self, number: int) -> None:
        """Count it."""
        self._board.begun(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:
        """Show its row."""
        self._board.ended(number, outcome, why, result, requested)
        self._refresh()

    def render(self) -> RenderableType:
        """Return what is shown now."""
        board = self._board
        counts = {name: count for name, count in self._counts.items() if count and name != "asked"}
        left = board.left_s(self._done)
        head = [f"{self._done} of {board.trials} trials", *(f"{count} {name}" for name, count in counts.items())]
        if left is not None:
            head.append(f"{timedelta(seconds=round(left))} left")
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        for title in ("trial", "outcome", *board.metrics):
            table.add_column(title, justify="left" if title == "outcome" else "right", no_wrap=True)
        table.add_column("parameters", overflow="ellipsis", no_wrap=True, ratio=1)
        for row in [row for row in board.rows if row.outcome != "infeasible"][-_ROWS:]:
            cells = [written(name, row.values[name]) if name in row.values else "" for name in board.metrics]
            table.add_row(str(row.number), row.outcome, *cells, Text(row.short or row.parameters))
        best = [Text(f"best: {self._best}", style="green")] if self._best else []
        return Group(Text("  ·  ".join(head), style="bold"), *best, table)

    def _refresh(self) -> None:
        """Ask the study; drawing happens more often than that."""
        self._counts = self._board.count()
        self._done = min(self._board.trials, done_of(self._counts))
        self._best = self._board.best()


class Silent:
    """Shows nothing."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def begun(self, number: int) -> None:
        """Show nothing."""
        self._board.begun(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:
        """Show nothing."""
        self._board.ended(number, outcome, why, result, requested)


@contextmanager
def shown(board: Board, *, show: bool) -> Iterator[Lines | LiveTable | Silent]:
    """Yield the display that suits standard error."""
    console = Console(file=sys.stderr)
    if not show:
        yield Silent(board)
    elif console.is_terminal:
        table = LiveTable(board, console)
        with table.live:
            yield table
    else:
        yield Lines(board, console)


def done_of(counts: Mapping[str, int]) -> int:
    """Return how many trials have their outcome; one that failed and ran again counts twice."""
    return sum(counts.get(name, 0) for name in ("complete", "pruned", "failed"))


def is_share(metric: str) -> bool:
    """Return whether an objective is a part of a whole, which a person reads in per cent."""
    return metric.endswith(_SHARES)


def written(metric: str, value: float) -> str:
    """Return a value of an objective as a person reads it."""
    if is_share(metric):
        return f"{100 * value:.2f} %"
    if metric == "bytes_exchanged":
        return f"{value / 1e6:.2f} MB"
    return f"{value:.4g}"


def parameters_of(run: RunConfig) -> str:
    """Return what distinguishes a run: its method and the fields of the coupling that were set."""
    return " ".join([run.method, *(f"{name}={value}" for name, value in run.coupling.items())])
