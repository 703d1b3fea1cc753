"""C2, C3: the couplings without Langevin noise. HJ against Hopf-Lax, heat against the heat equation."""

from __future__ import annotations

import math

from torch import Tensor

from deeprelax.coupling import Coupling, Heat, Hj
from deeprelax.pde.checks import Convergence, Verdict
from deeprelax.pde.heat import HeatSmoothing
from deeprelax.pde.potentials import Potential, random_potential
from deeprelax.pde.sde import homogenized
from deeprelax.verify.couplings.bed import Group
from deeprelax.verify.couplings.drift import (
    SMALL_STEP,
    STANDARD_ERRORS,
    anchors,
    applied_drift,
    hopf_lax,
    standard_errors_away,
)
from deeprelax.verify.couplings.laws import smoothing

X = anchors(8)
# One period from given anchors: no need for a small step here, whose rounding would hide the last digits.
OUTER_STEP = 0.5
REACHED = 1e-7


def _curvature(potential: Potential, x: Tensor) -> Tensor:
    step = 1e-5
    return (potential.gradient(x + step) - potential.gradient(x - step)) / (2 * step)


def _hj(variant: str, gamma: float, lr: float, period: int) -> tuple[Coupling, float]:
    """Return the coupling, and the displacement of its slow weights over grad u."""
    if variant == "descent":
        coupling = Hj(gamma=gamma, lr=lr, period=period, momentum=0.0, averaging=0.0, outer_lr=OUTER_STEP)
        return coupling, OUTER_STEP * gamma
    coupling = Hj(variant="fixed_point", gamma=gamma, lr=OUTER_STEP, period=period, momentum=0.0, damping=0.5)
    return coupling, OUTER_STEP


def _prox(potential: Potential, gamma: float) -> Tensor:
    """Return the proximal points of the anchors, shape (A, 1): Hopf-Lax's to 1e-8, the rest by Newton's method."""
    point = hopf_lax(potential, gamma).prox(X)
    for _ in range(3):
        slope = potential.gradient(point) + (point - X) / gamma
        point = point - slope / (_curvature(potential, point) + 1 / gamma)
    return point


def _factors(variant: str, potential: Potential, point: Tensor, gamma: float, lr: float) -> Tensor:
    """Return by how much one inner step shrinks the error of the drift near its goal ``point``, shape (A, 1)."""
    bend = _curvature(potential, point)
    return 1 - lr * (bend + 1 / gamma) if variant == "descent" else 0.5 - 0.5 * gamma * bend


def c2_on(variant: str, potential: Potential) -> tuple[Verdict, ...]:
    """Return the verdicts on one variant of HJ on one potential."""
    gamma, lr = smoothing(potential)
    point = _prox(potential, gamma)
    exact = (X - point) / gamma
    factors = _factors(variant, potential, point, gamma, lr).squeeze(-1)
    # Where the slowest anchor has come to about 1e-4, 1e-5, 1e-6 and 1e-7 of its start; the first steps are nonlinear.
    slowest = -math.log(float(factors.abs().max()))
    periods = [math.ceil(k * math.log(10) / slowest) for k in (4, 5, 6, 7, 9)]
    errors = []
    for period in periods:
        coupling, scale = _hj(variant, gamma, lr, period)
        errors.append((applied_drift(coupling, potential, X, scale=scale)[:, :1] - exact).abs().squeeze(-1))
    anchor = int(factors.abs().argmax())
    curve = [float(error[anchor]) for error in errors[:-1]]
    # A geometric error is of order 1 in its own factor^L.
    convergence = Convergence(
        symbol="(contraction factor)^L",
        sizes=tuple(math.exp(-slowest * period) for period in periods[:-1]),
        errors=tuple(curve),
        expected=1.0,
    )
    name = f"{potential.name}: HJ, {variant}"
    return (
        Verdict.converges(
            "C2",
            f"{name}: the error of the drift against Hopf-Lax is of order 1 in (contraction factor)^L",
            convergence,
            0.01,
        ),
        Verdict.at_most("C2", f"{name}: largest error after {periods[-1]} steps", float(errors[-1].max()), REACHED),
    )


def _flow_order(potential: Potential) -> Verdict:
    gamma, horizon, counts = 0.1, 0.4, (4, 8, 16, 32)
    limit = homogenized(hopf_lax(potential, gamma).gradient, X, horizon=horizon, steps=20)
    errors = []
    for count in counts:
        coupling = Hj(variant="fixed_point", gamma=gamma, lr=horizon / count, period=16, momentum=0.0, damping=0.2)
        end = Group(coupling, potential, X[None]).train(16 * count).points("anchor")[0]
        errors.append(float((end - limit).abs().max()))
    claim = "the outer steps of HJ follow dX = -grad u dt of Hopf-Lax with order 1 in the outer step"
    sizes = tuple(horizon / count for count in counts)
    convergence = Convergence(symbol="η", sizes=sizes, errors=tuple(errors), expected=1.0)
    return Verdict.converges("C2", claim, convergence, 0.2)


def c2(seed: int) -> tuple[Verdict, ...]:
    """The drift of HJ is -grad u of Hopf-Lax: both variants reach it geometrically in L."""
    potential = random_potential(seed)
    return (
        *c2_on("descent", potential),
        *c2_on("fixed_point", potential),
        _flow_order(random_potential(seed, roughness=0.3)),
    )


def c3_on(potential: Potential, seed: int) -> tuple[Verdict, ...]:
    """Return the verdicts on heat on one potential."""
    gamma, beta, paths = 0.5, 5.0, 300
    exact = HeatSmoothing(potential=potential, variance=gamma / beta).gradient(X)
    periods = (4, 8, 16, 32)
    errors = []
    for period in periods:
        coupling = Heat(gamma=gamma, beta=beta, lr=SMALL_STEP, period=period, momentum=0.0)
        drift = applied_drift(coupling, potential, X, scale=SMALL_STEP, paths=paths, seed=seed)
        errors.append(float((drift - exact).square().mean().sqrt()))
    again = applied_drift(coupling, potential, X, scale=SMALL_STEP, paths=paths, periods=2, seed=seed)
    return (
        Verdict.converges(
            "C3",
            f"{potential.name}: the error of heat's drift against E grad f(x + xi) is of order -1/2 in L",
            Convergence(symbol="L", sizes=periods, errors=tuple(errors), expected=-0.5),
            0.1,
        ),
        Verdict.at_most(
            "C3",
            f"{potential.name}: heat's drift has no bias, in its second period too: standard errors away",
            max(standard_errors_away(drift, exact), standard_errors_away(again, exact)),
            STANDARD_ERRORS,
        ),
    )


def c3(seed: int) -> tuple[Verdict, ...]:
    """The drift of heat is -grad of the heat equation's solution: no bias, noise of order -1/2 in L."""
    return c3_on(random_potential(seed), seed)
