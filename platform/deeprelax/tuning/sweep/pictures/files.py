"""Which pictures there are of a sweep, and their files."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deeprelax.config import RunConfig
from deeprelax.pictures import save
from deeprelax.tuning.sweep.pictures import history, importances, parameters, schedules
from deeprelax.tuning.sweep.standing import Standing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISSING = "they need matplotlib: pip install 'deeprelax[plots]'"
"""Why there are no pictures where it is not installed."""

_CREATOR = "deeprelax sweep"


def draw_pictures(
    folder: Path, standing: Standing, shares: Mapping[str, float], leading: Sequence[RunConfig]
) -> list[Path]:
    """Draw what there is to see of a sweep into SVG files; return them, or nothing without matplotlib.

    Args:
        folder: where; older pictures of the same names are replaced.
        standing: of the sweep, with at least one complete trial.
        shares: what part each parameter has in the objective, the largest first; may be empty.
        leading: the resolved runs of the best trials, the best first.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    drawn: dict[str, Callable[[Figure], None]] = {"history": lambda figure: history.draw(figure, standing)}
    if names := parameters.searched(standing, shares):
        drawn["parameters"] = lambda figure: parameters.draw(figure, standing, names)
    if shares:
        drawn["importances"] = lambda figure: importances.draw(figure, standing.metrics[0], shares)
    if curves := schedules.curves(leading):
        drawn["schedules"] = lambda figure: schedules.draw(figure, curves)
    folder.mkdir(parents=True, exist_ok=True)
    return [save(folder / f"{name}.svg", draw, _CREATOR) for name, draw in drawn.items()]
