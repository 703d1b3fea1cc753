"""How fast the inner chain forgets its start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deeprelax.pde import F2, contraction_rate
from deeprelax.pde.checks.dynamics import CONTRACTING_GAMMA, forgetting
from deeprelax.pictures.colors import BLACK, BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(figure: Figure) -> None:
    """Draw W2 and KL to the Gibbs measure under their exponential bounds."""
    curve = forgetting(horizon=0.8, steps=80)
    rate = contraction_rate(F2, CONTRACTING_GAMMA)
    figure.set_size_inches(10, 4.4)
    figure.suptitle(
        rf"The inner chain forgets its start at least as fast as its bound, $\lambda=1/\gamma-c={rate:g}$"
        rf" at $\gamma={CONTRACTING_GAMMA:g}$"
    )
    left, right = figure.subplots(1, 2, sharex=True)
    left.semilogy(curve.times, curve.wasserstein, color=BLUE, label=r"$W_2(p_t,p)$")
    left.semilogy(curve.times, curve.wasserstein_bound, "--", color=BLACK, label=r"bound $e^{-\lambda t}\,W_2(p_0,p)$")
    left.set(title="Wasserstein distance", xlabel="$t$", ylabel="$W_2$")
    right.semilogy(curve.times, curve.entropy, color=ORANGE, label=r"$\mathrm{KL}(p_t\,|\,p)$")
    right.semilogy(
        curve.times, curve.entropy_bound, "--", color=BLACK, label=r"bound $e^{-2\lambda t}\,\mathrm{KL}(p_0\,|\,p)$"
    )
    right.set(title="relative entropy", xlabel="$t$", ylabel="KL")
    for axes in (left, right):
        axes.legend(loc="upper right")
