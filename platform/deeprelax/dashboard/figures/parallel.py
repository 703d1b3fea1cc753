"""Parallel coordinates in plain lines: plotly's own need WebGL, which many remote desktops and browsers lack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deeprelax.dashboard.figures.figure import Figure, Trace
from deeprelax.dashboard.sweeps import TrialRow

MOST_AXES = 8
"""Parameters that are shown, the most important first; more cannot be read."""

_SHADES = 10
"""Tenths of the trials: each is drawn more strongly than the one before, on light and dark pages alike."""


@dataclass(frozen=True)
class _Axis:
    """One vertical axis.

    Args:
        name: of the parameter or objective.
        places: height of each trial on it, in [0, 1]; None where it has no value.
        low: what stands at its foot.
        high: what stands at its head.
    """

    name: str
    places: Sequence[float | None]
    low: str
    high: str


def parallel(objective: str, rows: Sequence[TrialRow], names: Sequence[str], direction: str) -> Figure:
    """Return a figure with a line a trial across an axis a parameter; the objective is the last axis.

    Args:
        objective: name of it.
        rows: trials that have a value.
        names: parameters that differ among them, the most important first.
        direction: ``minimize`` or ``maximize``.
    """
    axes = [_axis(name, [row.parameters.get(name) for row in rows]) for name in names[:MOST_AXES]]
    axes.append(_axis(objective, [row.values[0] for row in rows]))
    feet = [_written(i, axis.low, -0.05, "top") for i, axis in enumerate(axes)]
    heads = [_written(i, f"<b>{axis.name}</b><br>{axis.high}", 1.03, "bottom") for i, axis in enumerate(axes)]
    bars = [
        {"type": "line", "x0": i, "x1": i, "y0": 0, "y1": 1, "line": {"color": "#8a93a0"}} for i in range(len(axes))
    ]
    hidden = {"visible": False, "fixedrange": True}
    return Figure(
        name="parallel",
        title="All trials at once",
        says="A line a trial: the stronger, the better; the best tenth is orange.",
        traces=_lines(axes, rows, direction) if rows and names else [],
        layout={
            "xaxis": hidden | {"range": [-0.4, len(axes) - 0.6]},
            "yaxis": hidden | {"range": [-0.15, 1.22]},
            "annotations": feet + heads,
            "shapes": bars,
            "showlegend": False,
        },
    )


def _lines(axes: Sequence[_Axis], rows: Sequence[TrialRow], direction: str) -> list[Trace]:
    """Return a trace a shade, the best last and so on top; None between two trials lifts the pen."""
    worst_first = sorted(range(len(rows)), key=lambda i: rows[i].values[0], reverse=direction == "minimize")
    traces: list[Trace] = []
    for shade in range(_SHADES):
        begin, end = (len(rows) * place // _SHADES for place in (shade, shade + 1))
        chosen = worst_first[begin:end]
        x = [at for _ in chosen for at in (*range(len(axes)), None)]
        y = [place for i in chosen for place in (*(axis.places[i] for axis in axes), None)]
        text = [f"trial {rows[i].number}" for i in chosen for _ in range(len(axes) + 1)]
        best = shade == _SHADES - 1
        style = {"color": "#d55e00", "width": 2.4} if best else {"color": "#4a93c6", "width": 1.2}
        opacity = 1.0 if best else (shade + 1) / _SHADES
        line = {"type": "scatter", "mode": "lines", "x": x, "y": y, "text": text, "line": style, "opacity": opacity}
        traces.append(line)
    return traces


def _axis(name: str, column: Sequence[object]) -> _Axis:
    """Return an axis: numbers over more than two decades by their logarithm, words by their place in a list."""
    found = [float(value) for value in column if isinstance(value, int | float)]
    if not found or any(isinstance(value, str | bool) for value in column):
        words = sorted({str(value) for value in column})
        most = max(1, len(words) - 1)
        return _Axis(name, [words.index(str(value)) / most for value in column], words[0], words[-1])
    low, high = min(found), max(found)
    scale = math.log10 if low > 0 and high / low > 100 else float
    width = scale(high) - scale(low) or 1.0
    places = [(scale(value) - scale(low)) / width if isinstance(value, int | float) else None for value in column]
    return _Axis(name, places, f"{low:.3g}", f"{high:.3g}")


def _written(x: int, text: str, y: float, anchor: str) -> dict[str, object]:
    return {"x": x, "y": y, "text": text, "showarrow": False, "yanchor": anchor, "font": {"size": 12}}
