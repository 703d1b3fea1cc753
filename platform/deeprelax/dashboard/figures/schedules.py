"""The schedules of a sweep's best trials, as curves over training."""

from __future__ import annotations

from collections.abc import Sequence

from deeprelax.config import RunConfig
from deeprelax.dashboard.figures.figure import Figure, Trace, line
from deeprelax.tuning.sweep.pictures.schedules import Curve, curves


def schedule_figures(leading: Sequence[RunConfig]) -> list[Figure]:
    """Return a figure for every knob that changes along the run of one of the best trials.

    Args:
        leading: resolved runs, the best first.
    """
    return [
        Figure(
            name=f"schedule-{knob}",
            title=f"{knob} of the best trials along the run",
            says=f"The best in orange; the spread of the best {len(leading)} behind it.",
            traces=[_trace(curve) for curve in sorted(drawn, key=lambda curve: -curve.rank)],
            x="part of the run, %",
            y=knob,
            log_y=True,
            layout={"showlegend": False},
        )
        for knob, drawn in curves(leading).items()
    ]


def _trace(curve: Curve) -> Trace:
    best = curve.rank == 0
    style = {"color": "#d55e00", "width": 3} if best else {"color": "#4a93c6", "width": 1.4}
    parts = [100 * part for part in curve.parts]
    name = "the best" if best else f"place {curve.rank + 1}"
    return line(name, parts, curve.values, mode="lines", line=style, opacity=1.0 if best else 0.6)
