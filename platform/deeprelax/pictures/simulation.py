"""The center's error and the replicas' spread along simulated runs that differ in n."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pictures.colors import BLACK, LOSS, NEARER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deeprelax.simulation import Simulation


def draw(figure: Figure, done: Simulation) -> None:
    """Draw error and spread over steps for every n, and the late error over n."""
    figure.set_size_inches(13, 4)
    along, wide, late = figure.subplots(1, 3)
    shown = done.tracks[-len(NEARER) :]
    for track, color in zip(shown, NEARER[-len(shown) :], strict=True):
        along.plot(track.steps, track.errors, color=color, label=f"n = {track.replicas}")
        wide.plot(track.steps, track.spreads, color=color)
    along.axhline(done.target, color=LOSS, linestyle="--")
    along.set(xlabel="mini-batch steps", ylabel=r"$f(\bar x) - \min f$", yscale="log")
    along.legend()
    wide.set(xlabel="mini-batch steps", ylabel="spread of the replicas")
    late.plot([t.replicas for t in done.tracks], [t.error for t in done.tracks], color=BLACK, marker="o")
    late.set(xlabel="replicas n", ylabel="error in the last quarter", xscale="log", yscale="log")
