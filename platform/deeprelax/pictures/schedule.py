"""The schedules that the replicas of one run, or the trials of a population, applied, and the winner's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pictures.colors import BLUE, LOSS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deeprelax.execution.learned import LearnedSchedule

_SIGNS = {"lr": r"$\eta'$", "outer_lr": r"$\eta$", "gamma": r"$\gamma$", "rho": r"$\rho$", "beta": r"$\beta$"}


def draw(figure: Figure, learned: LearnedSchedule) -> None:
    """Draw a panel for each knob: each one's value from each exchange on, the winner's lineage above them."""
    figure.set_size_inches(10, 2.8 * len(learned.applied))
    one, all_ = ("trial", "trials") if learned.trials else ("replica", "replicas")
    figure.suptitle(f"What {len(learned.replicas)} {all_} applied, and the lineage of {one} {learned.winner}")
    ((*above, bottom),) = figure.subplots(len(learned.applied), 1, sharex=True, squeeze=False).T
    for axes, (knob, winning) in zip([*above, bottom], learned.applied.items(), strict=True):
        for values in learned.replicas:
            axes.step(learned.steps, values[knob], where="post", color=LOSS, linewidth=1.0)
        axes.step(learned.steps, winning, where="post", color=BLUE)
        axes.set(ylabel=f"{knob}  {_SIGNS.get(knob, '')}")
        if not knob.endswith("lr"):  # springs change by orders of magnitude and never reach 0
            axes.set_yscale("log")
    bottom.set(xlabel="mini-batch steps")
