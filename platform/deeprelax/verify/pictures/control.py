"""Controlled SGD against plain SGD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pde.checks.dynamics import START, control_problem
from deeprelax.pde.curves import controlled_against_plain
from deeprelax.pictures.colors import BLACK, BLUE, LOSS, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 400


def draw(figure: Figure) -> None:
    """Draw V and the value function over the densities of x_T."""
    problem = control_problem(STEPS)
    curves = controlled_against_plain(problem, START)
    plain, controlled = problem.expected_losses(START)
    figure.set_size_inches(8, 6.4)
    figure.suptitle(
        rf"The control $a=-\nabla u$ lowers the expected loss: $E\,V(x_T)$ from {plain:.3f} to {controlled:.3f}"
    )
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(curves.x, curves.terminal, color=LOSS, linewidth=3, label="$V(x)=(x^2-1)^2+0.3\\,x$")
    top.plot(curves.x, curves.value, color=BLACK, label="value function $u(x,0)$")
    top.axvline(START, color=BLACK, linestyle=":", linewidth=1.2, label="start $x_0=1$")
    top.set(ylabel="loss", ylim=(-0.5, 3))
    top.legend(loc="upper center")
    bottom.plot(curves.x, curves.plain, color=BLUE, linestyle="--", label=rf"SGD, $E\,V={plain:.4f}$")
    bottom.plot(curves.x, curves.controlled, color=ORANGE, label=rf"controlled SGD, $E\,V={controlled:.4f}$")
    bottom.set(xlabel="$x$", ylabel="density of $x_T$, $T=1$", xlim=(-2, 2), ylim=(0, None))
    bottom.legend(loc="upper left")
