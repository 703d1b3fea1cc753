"""The results as a table in a Markdown page, between two marks that the page already has."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from deeprelax.errors import ConfigError
from deeprelax.pde.checks import Check, Verdict
from deeprelax.verify.reporting import bound, number, summary
from deeprelax.verify.rows import ROWS, title
from deeprelax.verify.run import RowResult

BEGIN, END = "<!-- deeprelax verify: begin -->", "<!-- deeprelax verify: end -->"


def page_parts(path: str) -> tuple[str, str]:
    """Return the page up to the first mark and from the second on.

    Raises:
        ConfigError: the file cannot be read, or lacks a mark.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Invalid markdown={path!r}: {error}. Must be a text file with two marks.") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(
            f"Invalid markdown={path!r}. Must hold these two lines, and the table goes between:\n{BEGIN}\n{END}"
        )
    return before + begin, end + after


def write_page(path: str, results: Sequence[RowResult]) -> None:
    """Write the table between the marks of the page; what is outside them stays. Raises as :func:`page_parts`."""
    before, after = page_parts(path)
    Path(path).write_text(f"{before}\n\n{table(results)}\n{after}", encoding="utf-8")


def table(results: Sequence[RowResult], rows: Mapping[str, Check] = ROWS) -> str:
    """Return the table, one line a claim below a line with its row's title, and a last line on how it was made.

    Args:
        results: of :func:`~deeprelax.verify.run.verify`.
        rows: the table they came from, for the titles.
    """
    lines = ["| row | claim | measured | bound | |", "| --- | --- | ---: | --- | --- |"]
    several = len({result.seed for result in results}) > 1
    for result in results:
        about = title(rows[result.row]) + (f" Seed {result.seed}." if several else "")
        lines.append(f"| **{result.row}** | **{escaped(about)}** | | | |")
        lines += [_line(verdict) for verdict in result.verdicts]
    return "\n".join([*lines, "", _made(results), ""])


def _line(verdict: Verdict) -> str:
    detail = f" ({verdict.detail})" if verdict.detail else ""
    word = "holds" if verdict.passed else "**FAILS**"
    return f"| | {escaped(verdict.claim + detail)} | {number(verdict.measured)} | {bound(verdict)} | {word} |"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    for special in ("\\", "|", "<", "*", "_", "`"):
        text = text.replace(special, f"\\{special}")
    return text


def _made(results: Sequence[RowResult]) -> str:
    seeds = ", ".join(str(seed) for seed in sorted({result.seed for result in results}))
    counts = summary(results).partition(" (")[0]
    return (
        f"{counts}. Seed {seeds}; deeprelax {version('deeprelax')}, torch {version('torch')}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}."
    )
