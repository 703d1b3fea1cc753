"""Where good trials lie: the objective against each parameter by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from deeprelax.pictures.colors import BLUE, LOSS, ORANGE
from deeprelax.tuning.sweep.pictures import objective
from deeprelax.tuning.sweep.standing import LEADING, Standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 8
"""Parameters that are shown; those that matter least are left out."""

COLUMNS = 4
_WIDTH = 24  # letters below a panel


def short(name: str) -> str:
    """Return a parameter's name; a space inside another one says its own name twice."""
    first, _, rest = name.partition(".")
    return rest if rest.startswith(f"{first}.") else name


def searched(standing: Standing, shares: Mapping[str, float]) -> list[str]:
    """Return the parameters that have taken more than one value, those that matter most first.

    Args:
        standing: of the sweep.
        shares: what part each parameter has in the objective; may be empty.
    """
    seen: dict[str, set[object]] = {}
    for trial in standing.complete:
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    varied = [name for name, values in seen.items() if len(values) > 1]
    return sorted(varied, key=lambda name: -shares.get(name, 0.0))[:MOST]


def draw(figure: Figure, standing: Standing, names: Sequence[str]) -> None:
    """Draw a panel a parameter; the best trials are coloured.

    Args:
        figure: empty.
        standing: of the sweep.
        names: of the parameters, at least one.
    """
    columns = min(COLUMNS, len(names))
    rows = ceil(len(names) / columns)
    figure.set_size_inches(1.2 + 2.9 * columns, 0.9 + 2.7 * rows)
    count = min(LEADING, len(standing.complete))
    figure.suptitle(f"Trials by each parameter: the best one in orange, the best {count} in blue")
    values = [trial.values[0] for trial in standing.complete]
    first: Axes | None = None
    for place, name in enumerate(names, start=1):
        axes = first = figure.add_subplot(rows, columns, place, sharey=first)
        _panel(axes, standing, name)
        if place % columns == 1 or columns == 1:
            objective.show(axes, standing.metrics[0], values, maximize=standing.directions[0] == "maximize")
        else:
            axes.tick_params(labelleft=False)


def _panel(axes: Axes, standing: Standing, name: str) -> None:
    leading = standing.leading(LEADING)
    best = {trial.number for trial in leading}
    others = [trial for trial in standing.complete if trial.number not in best]
    choices = _choices(standing.complete, name)
    for trials, color, size in ((others, LOSS, 4.5), (leading[1:], BLUE, 6), (leading[:1], ORANGE, 9)):
        there = [trial for trial in trials if name in trial.params]
        places = [choices[str(trial.params[name])] if choices else trial.params[name] for trial in there]
        axes.plot(
            places, [trial.values[0] for trial in there], "o",
            color=color, markersize=size, alpha=0.85, markeredgewidth=0,
        )  # fmt: skip
    if choices:
        axes.set_xticks(list(choices.values()), list(choices))
        axes.margins(x=0.25)
        _tilt(axes, list(choices))
    elif _is_logarithmic(standing.complete, name):
        values = [trial.params[name] for trial in standing.complete if name in trial.params]
        objective.logarithmic(axes, "x", max(values) / min(values))
    words = short(name)
    axes.set_xlabel(words if len(words) <= _WIDTH else words.replace(".", ".\n", 1))


def _tilt(axes: Axes, words: Sequence[str]) -> None:
    if sum(map(len, words)) > 18:  # what fits side by side
        axes.tick_params(axis="x", rotation=30)


def _choices(trials: Sequence[FrozenTrial], name: str) -> dict[str, int]:
    """Return where each choice stands, in the order of the space; nothing for numbers."""
    kind = next(trial.distributions[name] for trial in trials if name in trial.distributions)
    if not isinstance(kind, CategoricalDistribution):
        return {}
    return {str(choice): place for place, choice in enumerate(kind.choices)}


def _is_logarithmic(trials: Sequence[FrozenTrial], name: str) -> bool:
    kind = next(trial.distributions[name] for trial in trials if name in trial.distributions)
    return isinstance(kind, FloatDistribution | IntDistribution) and kind.log
