"""How a sweep went: each trial, and the best one so far, against trials and against what they have cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from deeprelax.pictures.colors import BLUE, LOSS, ORANGE
from deeprelax.tuning.sweep.display import written
from deeprelax.tuning.sweep.pictures import objective
from deeprelax.tuning.sweep.standing import Standing, cost_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(figure: Figure, standing: Standing) -> None:
    """Draw two panels side by side: the same values, over the number of trials and over their gradients.

    Args:
        figure: empty.
        standing: of the sweep, with at least one complete trial.
    """
    ended = sorted(
        (trial for trial in standing.trials if trial.state in {TrialState.COMPLETE, TrialState.PRUNED}),
        key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete, trial.number),
    )
    costs = list(accumulate(cost_of(trial).get("gradients", 0.0) for trial in ended))
    figure.set_size_inches(11, 4.2)
    best = standing.best
    assert best is not None
    metric = standing.metrics[0]
    figure.suptitle(f"{len(ended)} trials; the best is trial {best.number} with {written(metric, best.values[0])}")
    left, right = figure.subplots(1, 2, sharey=True)
    counted = [float(count) for count in range(1, len(ended) + 1)]
    for axes, places in ((left, counted), (right, costs)):
        _panel(axes, standing, ended, places)
    values = [value for trial in ended if (value := _value(trial)) is not None]
    objective.show(left, metric, values, maximize=standing.directions[0] == "maximize")
    left.set_xlabel("trials that have ended")
    right.set_xlabel("mini-batch gradients of all trials")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _panel(axes: Axes, standing: Standing, ended: Sequence[FrozenTrial], places: Sequence[float]) -> None:
    better = max if standing.directions[0] == "maximize" else min
    shown = [
        (x, value, trial.state) for x, trial in zip(places, ended, strict=True) if (value := _value(trial)) is not None
    ]
    complete = [(x, value) for x, value, state in shown if state is TrialState.COMPLETE]
    pruned = [(x, value) for x, value, state in shown if state is TrialState.PRUNED]
    xs, values = zip(*complete, strict=True)
    best = list(accumulate(values, better))
    axes.plot(xs, values, "o", color=LOSS, markersize=5.5, markeredgewidth=0, label="trial")
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "o", color=LOSS, markersize=5, fillstyle="none", label="stopped early")
    axes.step([*xs, places[-1]], [*best, best[-1]], where="post", color=BLUE, label="best so far")
    first = best.index(best[-1])
    axes.plot(xs[first], best[-1], "o", color=ORANGE, markersize=9, zorder=3, label="best")
    axes.margins(x=0.03)


def _value(trial: FrozenTrial) -> float | None:
    """Return what a trial came to; of one that was stopped early, what it has reported last."""
    if trial.state is TrialState.COMPLETE:
        value: float = trial.values[0]
        return value
    return trial.intermediate_values[max(trial.intermediate_values)] if trial.intermediate_values else None
