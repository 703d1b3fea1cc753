"""Running rows, one at a time, with somebody watching."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from deeprelax.pde.checks import Check, Verdict, run_check, select
from deeprelax.verify.rows import ROWS


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What one row said with one seed.

    Args:
        row: its name, for example ``"T7"``.
        seed: of everything it drew at random.
        seconds: how long it ran.
        verdicts: its claims, measured.
    """

    row: str
    seed: int
    seconds: float
    verdicts: tuple[Verdict, ...]


class Watcher(Protocol):
    """Who is told what runs: a display."""

    def started(self, row: str, seed: int) -> None:
        """A row began to run."""

    def ended(self, result: RowResult) -> None:
        """The row that ran has ended."""


class Nobody:
    """Watches nothing."""

    def started(self, row: str, seed: int) -> None:
        """Do nothing."""

    def ended(self, result: RowResult) -> None:
        """Do nothing."""


def verify(
    only: Iterable[str] | None = None,
    *,
    seeds: Sequence[int] = (0,),
    watcher: Watcher | None = None,
    rows: Mapping[str, Check] = ROWS,
) -> list[RowResult]:
    """Run the checks and return what they said, row by row and within a row seed by seed.

    Args:
        only: rows such as ``"T7"``; None = all.
        seeds: each row runs once with each.
        watcher: is told before and after each run; None = nobody.
        rows: the table they are taken from.

    Raises:
        ConfigError: a row does not exist.

    Example:
        >>> (result,) = verify(["T13"])
        >>> all(verdict.passed for verdict in result.verdicts)
        True
    """
    watching = Nobody() if watcher is None else watcher
    results = []
    for row, check in select(only, rows).items():
        for seed in seeds:
            watching.started(row, seed)
            began = time.perf_counter()
            verdicts = run_check(row, check, seed)
            results.append(RowResult(row=row, seed=seed, seconds=time.perf_counter() - began, verdicts=verdicts))
            watching.ended(results[-1])
    return results
