"""What part each parameter has in how trials differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deeprelax.pictures.colors import BLUE
from deeprelax.tuning.sweep.pictures import objective
from deeprelax.tuning.sweep.pictures.parameters import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12
"""Parameters that are shown; those that matter least are left out."""


def draw(figure: Figure, metric: str, shares: Mapping[str, float]) -> None:
    """Draw a bar a parameter.

    Args:
        figure: empty.
        metric: the objective.
        shares: of each parameter, the largest first; they add up to 1.
    """
    names = list(shares)[:MOST]
    figure.set_size_inches(7.5, 1.3 + 0.38 * len(names))
    figure.suptitle(f"What decides the {objective.label(metric)}")
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), [100 * shares[name] for name in names], height=0.62, color=BLUE)
    axes.bar_label(bars, [f"{100 * shares[name]:.0f} %" for name in names], padding=5)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
