"""The results as plain values: the JSON report and the words the displays share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from deeprelax.pde.checks import Verdict
from deeprelax.verify.run import RowResult

RELATIONS = {"<=": "≤", ">=": "≥"}


def report(results: Sequence[RowResult]) -> dict[str, object]:
    """Return the results as JSON values; a number that is not finite becomes None.

    Keys: ``passed`` and ``failed`` count claims; ``seconds``; ``rows``, one a row and seed; ``verdicts``, one a claim.
    """
    verdicts = [
        {"row": result.row, "seed": result.seed, **_plain(verdict)} for result in results for verdict in result.verdicts
    ]
    failed = sum(not verdict["passed"] for verdict in verdicts)
    rows = [
        {
            "row": result.row,
            "seed": result.seed,
            "seconds": round(result.seconds, 3),
            "passed": all(verdict.passed for verdict in result.verdicts),
        }
        for result in results
    ]
    return {
        "passed": len(verdicts) - failed,
        "failed": failed,
        "seconds": round(sum(result.seconds for result in results), 3),
        "rows": rows,
        "verdicts": verdicts,
    }


def summary(results: Sequence[RowResult]) -> str:
    """Return the last line: how many claims hold, how many fail, in what time."""
    verdicts = [verdict for result in results for verdict in result.verdicts]
    failed = sum(not verdict.passed for verdict in verdicts)
    seconds = sum(result.seconds for result in results)
    rows = len({result.row for result in results})
    seeds = len({result.seed for result in results})
    runs = f"{rows} row{'s'[: rows != 1]}" + (f", {seeds} seeds" if seeds > 1 else "")
    return f"{len(verdicts) - failed} hold, {failed} fail ({runs}, {seconds:.0f} s)"


def number(value: float) -> str:
    """Return a number in three digits, as in the table."""
    return f"{value:.3g}"


def bound(verdict: Verdict) -> str:
    """Return what ``measured`` must be: ``"≤ 0.1"``."""
    return f"{RELATIONS[verdict.relation]} {number(verdict.bound)}"


def _plain(verdict: Verdict) -> dict[str, object]:
    values = asdict(verdict)
    del values["key"]
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()}  # fmt: skip
