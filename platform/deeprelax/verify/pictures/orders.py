"""Orders of convergence, as measured by the rows that ran."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import ceil, exp, log
from typing import TYPE_CHECKING

from deeprelax.pde.checks import Convergence, Verdict
from deeprelax.pictures.colors import BLACK, BLUE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
TITLE_WIDTH = 36


def draw(figure: Figure, verdicts: Sequence[Verdict]) -> None:
    """Draw one panel a verdict that claims an order: its errors and a line of the expected slope.

    Args:
        figure: empty.
        verdicts: at least one, each with its ``convergence``.
    """
    rows = ceil(len(verdicts) / COLUMNS)
    figure.set_size_inches(11, 0.8 + 3 * rows)
    figure.suptitle("Errors fall with the orders the theory claims (dots: measured, line: the claimed slope)")
    for place, verdict in enumerate(verdicts, start=1):
        assert verdict.convergence is not None, "chosen for it"
        _panel(figure.add_subplot(rows, COLUMNS, place), verdict.key, verdict.claim, verdict.convergence)


def _panel(axes: Axes, key: str, claim: str, convergence: Convergence) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    sizes, errors, slope = convergence.sizes, convergence.errors, convergence.expected
    middle = exp(sum(log(error) - slope * log(size) for size, error in zip(sizes, errors, strict=True)) / len(sizes))
    axes.loglog(sizes, [middle * size**slope for size in sizes], color=BLACK, linewidth=1.2)
    axes.loglog(sizes, errors, "o", color=BLUE, markersize=7)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sizes, [f"{size:.3g}" for size in sizes], fontsize=9.5)
    # Most panels span about one decade: three labels in each, none of them a power.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.tick_params(axis="y", labelsize=9.5)
    axes.set_title(textwrap.fill(f"{key}: {claim}", TITLE_WIDTH), fontsize=10, loc="left")
    axes.set(xlabel=convergence.symbol, ylabel="error")
    rising = slope > 0
    axes.annotate(
        f"order {convergence.order:.2f}\nclaimed {slope:g}",
        (0.05 if rising else 0.95, 0.95),
        xycoords="axes fraction",
        ha="left" if rising else "right",
        va="top",
    )
