"""The axis of the objective, the same in every picture of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from deeprelax.tuning.sweep.display import is_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DECADES = 8.0
"""Ratio of the largest and the smallest value from which an axis is logarithmic."""

_MANY = 60.0
"""Ratio from which its numbers are powers of ten only."""

_WORST = 0.9
"""Part of the trials that is shown for sure; of the worst ones the axis may leave some out at its end."""

_FAR = 4.0
"""How much farther from the best than the others are such trials may be before they are left out."""


def label(metric: str) -> str:
    """Return the name of an objective, as a person reads it."""
    return metric.removeprefix("center/").replace("_", " ")


def show(axes: Axes, metric: str, values: Sequence[float], *, maximize: bool) -> None:
    """Set up the vertical axis for the values of an objective: its name, its unit, and its scale.

    Args:
        axes: to be set up.
        metric: name of the objective.
        values: that are drawn, at least one.
        maximize: whether large values are good.
    """
    from matplotlib.ticker import FuncFormatter

    low, high = _limits(values, maximize=maximize)
    axes.set_ylabel(label(metric))
    if is_wide(low, high):
        logarithmic(axes, "y", high / low)
        axes.set_ylim(low / 1.25, high * 1.25)
    else:
        room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
        axes.set_ylim(low - room, high + room)
    share = is_share(metric)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %" if share else f"{value:.4g}"))


def is_wide(low: float, high: float) -> bool:
    """Return whether values between these are to be drawn on a logarithmic axis."""
    return low > 0 and high > _DECADES * low


def logarithmic(axes: Axes, which: Literal["x", "y"], ratio: float) -> None:
    """Make an axis logarithmic, with a few round numbers on it.

    Args:
        axes: to be set up.
        which: of its two.
        ratio: of the largest and the smallest value.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    subs = (1,) if ratio > _MANY else (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=subs, numticks=5) if ratio > _DECADES else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _limits(values: Sequence[float], *, maximize: bool) -> tuple[float, float]:
    """Return the range that is shown: all values, without those that would press the others together."""
    ranked = sorted(values, reverse=maximize)
    best, usual = ranked[0], ranked[int(_WORST * (len(ranked) - 1))]
    near = [value for value in ranked if abs(value - best) <= _FAR * abs(usual - best) or usual == best]
    return min(near), max(near)
