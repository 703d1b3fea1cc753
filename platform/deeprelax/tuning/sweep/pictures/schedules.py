"""The schedules of the best trials as curves over the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deeprelax.config import RunConfig
from deeprelax.pictures.colors import BLUE, LOSS
from deeprelax.schedules import Position
from deeprelax.tuning.sweep.pictures import objective

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
_PARTS = 200
_SIGNS = {"lr": r"$\eta'$", "gamma": r"$\gamma$", "rho": r"$\rho$", "outer_lr": r"$\eta$", "period": "$L$"}


@dataclass(frozen=True)
class Curve:
    """What one knob of one trial is along its run.

    Args:
        rank: of the trial, 0 for the best.
        parts: of the run, from 0 to 1.
        values: there.
    """

    rank: int
    parts: tuple[float, ...]
    values: tuple[float, ...]


def curves(leading: Sequence[RunConfig]) -> dict[str, list[Curve]]:
    """Return the curves of every knob that changes along the run of at least one trial.

    A spring that a run balances by measurement is left out: its values are not known here.

    Args:
        leading: resolved runs, the best first.
    """
    found: dict[str, list[Curve]] = {}
    for rank, run in enumerate(leading):
        for knob, curve in _along(rank, run).items():
            if all(map(math.isfinite, curve.values)):
                found.setdefault(knob, []).append(curve)
    return {knob: drawn for knob, drawn in found.items() if any(len(set(curve.values)) > 1 for curve in drawn)}


def draw(figure: Figure, found: Mapping[str, Sequence[Curve]]) -> None:
    """Draw a panel a knob: the curves, the best above the others, and the range that they span.

    Args:
        figure: empty.
        found: at least one knob.
    """
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    trials = 1 + max(curve.rank for drawn in found.values() for curve in drawn)
    figure.set_size_inches(1 + 3.7 * columns, 1.4 + 2.9 * rows)
    figure.suptitle("Schedules of the best trial" + (f" and of the {trials - 1} after it" if trials > 1 else ""))
    for place, (knob, drawn) in enumerate(found.items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        _panel(axes, drawn)
        axes.set_title(f"{knob}  {_SIGNS.get(knob, '')}".strip(), loc="left")
        if place > len(found) - columns:
            axes.set_xlabel("part of the run")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _panel(axes: Axes, drawn: Sequence[Curve]) -> None:
    from matplotlib.ticker import FuncFormatter

    across = np.linspace(0, 1, _PARTS + 1)
    heights = np.array([np.interp(across, curve.parts, curve.values) for curve in drawn])
    for curve in sorted(drawn, key=lambda curve: curve.rank):
        best = curve.rank == 0
        axes.plot(
            curve.parts, curve.values,
            color=BLUE if best else LOSS, linewidth=2.6 if best else 1.0, zorder=3 if best else 2,
            label={0: "the best", 1: "those after it"}.get(curve.rank),
        )  # fmt: skip
    axes.fill_between(across, heights.min(0), heights.max(0), color=BLUE, alpha=0.1, linewidth=0, label="their range")
    if objective.is_wide(heights.min(), heights.max()):
        objective.logarithmic(axes, "y", heights.max() / heights.min())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda part, _: f"{100 * part:.0f} %"))
    axes.margins(x=0)


def _along(rank: int, run: RunConfig) -> dict[str, Curve]:
    """Return the curves of a run's schedules."""
    assert run.steps is not None, "the run is resolved"
    coupling = run.make_coupling()
    start = Position(steps_per_pass=max(1, round(run.steps / run.epochs)), total_steps=run.steps)
    places = start.ahead(max(1.0, *coupling.period.values), _PARTS)
    parts = tuple(place.step / run.steps for place in places)
    return {
        knob: Curve(rank, parts, tuple(schedule.at(place) for place in places))
        for knob, schedule in coupling.schedules().items()
    }
