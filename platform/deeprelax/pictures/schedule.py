"""The schedules that the replicas of one run applied, and the winner's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pictures.colors import BLUE, LOSS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deeprelax.execution.learned import LearnedSchedule

_SIGNS = {"lr": r"$\eta'$", "gamma": r"$\gamma$", "rho": r"$\rho$"}


def draw(figure: Figure, learned: LearnedSchedule) -> None:
    """Draw a panel for each knob: every replica's value from each exchange on, the winner's lineage above them."""
    figure.set_size_inches(10, 2.8 * len(learned.applied))
    figure.suptitle(f"What {len(learned.replicas)} replicas applied, and the lineage of replica {learned.winner}")
    ((*above, bottom),) = figure.subplots(len(learned.applied), 1, sharex=True, squeeze=False).T
    for axes, (knob, winning) in zip([*above, bottom], learned.applied.items(), strict=True):
        for values in learned.replicas:
            axes.step(learned.steps, values[knob], where="post", color=LOSS, linewidth=1.0)
        axes.step(learned.steps, winning, where="post", color=BLUE)
        axes.set(ylabel=f"{knob}  {_SIGNS[knob]}")
        if knob != "lr":  # springs change by orders of magnitude and never reach 0
            axes.set_yscale("log")
    bottom.set(xlabel="mini-batch steps")
