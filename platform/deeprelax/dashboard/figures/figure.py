"""What all figures are: traces and axes as plotly's JavaScript takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Trace = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure.

    Args:
        name: of the element of the page that shows it.
        title: above it.
        says: one sentence that tells a reader what to look for; what a screen reader reads.
        traces: plotly's.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        log_y: a logarithmic vertical axis.
        layout: more of plotly's layout.
    """

    name: str
    title: str
    says: str
    traces: Sequence[Trace]
    x: str = ""
    y: str = ""
    log_y: bool = False
    layout: Mapping[str, object] = field(default_factory=dict)

    def drawn(self) -> dict[str, object]:
        """Return data and layout for plotly."""
        traces = [_positive(trace) for trace in self.traces] if self.log_y else list(self.traces)
        y_axis = {"title": {"text": self.y}, "type": "log" if self.log_y else "linear", "automargin": True}
        x_axis = {"title": {"text": self.x}, "automargin": True}
        return {"data": traces, "layout": {"xaxis": x_axis, "yaxis": y_axis, **self.layout}}


def line(name: str, x: Sequence[object], y: Sequence[object], **more: object) -> Trace:
    """Return a line through points, with a mark at each if they are few."""
    mode = "lines+markers" if len(x) <= 40 else "lines"
    return {"type": "scatter", "mode": mode, "name": name, "x": list(x), "y": list(y), **more}


def numbers(rows: Sequence[Mapping[str, object]], name: str) -> list[float | None]:
    """Return a column of rows; None where a row does not have it."""
    return [float(value) if isinstance(value := row.get(name), int | float) else None for row in rows]


def present(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> list[str]:
    """Return the names that some row has."""
    return [name for name in names if any(name in row for row in rows)]


def _positive(trace: Trace) -> Trace:
    """Return a trace without what a logarithmic axis cannot show."""
    y = trace.get("y")
    if not isinstance(y, Sequence):
        return trace
    return {**trace, "y": [value if isinstance(value, int | float) and value > 0 else None for value in y]}
