"""Where the minima are as gamma grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pde import F1, Grid
from deeprelax.pde.curves import merging
from deeprelax.pictures.colors import BLUE, LOSS, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAMMAS, BETA = tuple(0.02 * k for k in range(1, 26)), 1.0
WINDOW = Grid(low=-2.5, high=2.5, points=501)
NODES = Grid.covering(-6, 6, 0.01)
# Places in (0, *GAMMAS) where the picture gives the number of minima: gamma = 0, .1, .2 and .4.
COUNTED = (0, 5, 10, 20)


def draw(figure: Figure) -> None:
    """Draw the minima of Hopf-Lax and of the local entropy over the loss they grow from."""
    curves = merging(F1, GAMMAS, beta=BETA, window=WINDOW, grid=NODES)
    figure.set_size_inches(10, 6)
    figure.suptitle(r"Shallow minima merge as $\gamma$ grows; Hopf–Lax keeps the lowest one where it is")
    rows = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    panels = ((curves.non_viscous, r"Hopf–Lax, $\beta=\infty$"), (curves.viscous, rf"local entropy, $\beta={BETA:g}$"))
    x = WINDOW.axis()
    for (above, below), (minima, name) in zip(rows.T, panels, strict=True):
        above.set_title(name)
        for gamma, places in zip(curves.gammas, minima, strict=True):
            above.plot(places, [gamma] * len(places), "o", color=BLUE, markersize=4)
        for place in COUNTED:
            gamma, count = curves.gammas[place], len(minima[place])
            words = f"{count} left" if gamma else f"{count} minima"
            above.annotate(words, (2.95, gamma), ha="right", va="center", backgroundcolor="white")
        for axes in (above, below):
            axes.axvline(F1.minima[0][0], color=ORANGE, linestyle="--", linewidth=1.2, zorder=0)
            axes.set_xlim(-2.6, 3)
        below.plot(x, F1(WINDOW.nodes()), color=LOSS, linewidth=3)
        below.set(xlabel="$x$")
        below.annotate(
            "lowest", (F1.minima[0][0], 7), xytext=(4, 0), textcoords="offset points", va="top", color=ORANGE
        )
    rows[0, 0].set_ylabel(r"$\gamma$")
    rows[1, 0].set_ylabel("$f(x)$")
