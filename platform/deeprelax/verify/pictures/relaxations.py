"""The loss and its three smoothings as gamma shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pde import F1, Grid
from deeprelax.pde.curves import relaxations
from deeprelax.pictures.colors import LOSS, NEARER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAMMAS, BETA = (0.5, 0.2, 0.05, 0.01), 2.0
WINDOW = Grid(low=-2.2, high=2.2, points=441)
NODES = Grid.covering(-8, 8, 0.01)


def draw(figure: Figure) -> None:
    """Draw u(x, γ): viscous, non-viscous and heat side by side."""
    curves = relaxations(F1, GAMMAS, beta=BETA, window=WINDOW, grid=NODES)
    panels = (
        (curves.viscous, rf"local entropy (viscous), $\beta={BETA:g}$"),
        (curves.non_viscous, r"Hopf–Lax (non-viscous), $\beta=\infty$"),
        (curves.heat, rf"heat, variance $\gamma/\beta$, $\beta={BETA:g}$"),
    )
    figure.set_size_inches(11, 4.6)
    figure.suptitle(
        r"As $\gamma$ shrinks, each smoothing $u(x,\gamma)$ returns to the loss $f(x)=x^2+1.5\,\sin 2\pi x$"
    )
    for axes, (smoothed, name) in zip(figure.subplots(1, 3, sharex=True, sharey=True), panels, strict=True):
        axes.plot(curves.x, curves.loss, color=LOSS, linewidth=3, label="$f$")
        for gamma, u, color in zip(curves.gammas, smoothed, NEARER, strict=True):
            axes.plot(curves.x, u, color=color, label=rf"$\gamma={gamma:g}$")
        axes.set(title=name, xlabel="$x$")
    figure.axes[0].set_ylabel(r"$u(x,\gamma)$")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
