"""The estimated local entropy against closed forms (quadratics) and against quadrature (1-d)."""

from __future__ import annotations

import math

import pytest
import torch
from tests.unit.flatness.bowls import generator, landscape_of, rotated, task_of
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.flatness import FlatnessConfig, measure
from deeprelax.flatness.gibbs import GibbsChain
from deeprelax.flatness.local_entropy import local_entropy
from deeprelax.pde import F1, F2, Grid, LocalEntropy, Potential, quadratic, random_potential

SIZE = 20
HESSIAN = rotated(torch.logspace(-2, 1, SIZE))
X = 0.1 * torch.randn(SIZE, generator=generator(1), dtype=torch.float64)


def closed_form(gamma: float, beta: float) -> tuple[float, float, float]:
    """Return of the quadratic f_gamma(x), the larger of the terms by which it differs from f, and |grad f_gamma(x)|.

    With g = H x and A = I + gamma H, by completing the square in E exp(-beta (g . xi + xi' H xi / 2)) over
    xi ~ N(0, gamma/beta): f_gamma = f + log det A / (2 beta) - gamma/2 g' A^-1 g, and grad f_gamma = A^-1 g.
    """
    gradient = HESSIAN @ X
    widened = torch.eye(SIZE, dtype=torch.float64) + gamma * HESSIAN
    moved = torch.linalg.solve(widened, gradient)
    lifted, lowered = float(torch.logdet(widened)) / (2 * beta), float(gamma / 2 * gradient @ moved)
    return float(0.5 * X @ gradient) + lifted - lowered, max(lifted, lowered), float(moved.norm())


@pytest.mark.parametrize(("gamma", "beta"), [(0.1, 30.0), (1.0, 30.0), (1.0, 1e4)])
def test_a_quadratic_has_the_closed_form(gamma: float, beta: float) -> None:
    config = FlatnessConfig(gamma=gamma, beta=beta, steps=40, chains=6)
    found = local_entropy(landscape_of(quadratic(HESSIAN), X), config, 10.0, generator())
    value, term, norm = closed_form(gamma, beta)
    error = 4 * found.local_entropy.stderr + abs(found.hysteresis)
    assert abs(found.local_entropy.value - value) < error < 0.5 * term
    assert abs(found.gradient_norm.value - norm) < 4 * found.gradient_norm.stderr + 0.05 * norm


def test_the_hysteresis_falls_with_the_steps() -> None:
    landscape = landscape_of(quadratic(HESSIAN), 3 * X)
    few, many = (
        local_entropy(landscape, FlatnessConfig(steps=steps, chains=6), 10.0, generator()).hysteresis
        for steps in (10, 60)
    )
    assert 0 < many < 0.5 * few


WAVES = random_potential(3)
COPIES = 16


@pytest.mark.parametrize(
    ("potential", "x", "gamma", "beta"),
    [(F1, 0.5, 0.02, 20.0), (F2, 0.3, 0.5, 3.0), (F2, 1.0, 0.1, 20.0), (WAVES, -0.5, 0.7, 4.0)],
)
def test_a_potential_has_the_local_entropy_of_the_quadrature(
    potential: Potential, x: float, gamma: float, beta: float
) -> None:
    exact = LocalEntropy(potential=potential, gamma=gamma, beta=beta, grid=Grid(low=-8, high=8, points=4001))
    at = torch.tensor([x], dtype=torch.float64)
    value, slope = float(exact.value(at)), abs(float(exact.gradient(at)))
    # Independent coordinates add up, so that a chain in 16 dimensions averages 16 of one dimension.
    landscape = landscape_of(lambda y: potential(y.unsqueeze(-1)).sum(), at.expand(COPIES))
    config = FlatnessConfig(gamma=gamma, beta=beta, steps=60, chains=4)
    found = local_entropy(landscape, config, 20.0, generator())
    error = (4 * found.local_entropy.stderr + abs(found.hysteresis)) / COPIES
    assert abs(found.local_entropy.value / COPIES - value) < error < 0.5 * abs(value - float(potential(at)))
    norm_error = 4 * found.gradient_norm.stderr / math.sqrt(COPIES)
    assert abs(found.gradient_norm.value / math.sqrt(COPIES) - slope) < norm_error < 0.5 * slope + 0.5


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("stiffest", [0.0, 1.0, 30.0])
def test_the_chain_has_the_law_of_the_gibbs_measure_at_any_step_size(scale: float, stiffest: float) -> None:
    # 400 equal coordinates: the variance of one state is known to 7 %, without waiting.
    size, gamma, beta, curvature = 400, 0.5, 20.0, 0.2
    landscape = landscape_of(quadratic(curvature * torch.eye(size, dtype=torch.float64)), torch.zeros(size).double())
    chain = GibbsChain(landscape=landscape, gamma=gamma, beta=beta, stiffest=stiffest, generator=generator(2))
    state, squares = chain.free(), []
    free = float(state.offset.square().mean())
    for _ in range(150):
        state = chain.step(state, scale)
        squares.append(float(state.offset.square().mean()))
    assert free == pytest.approx(gamma / beta, rel=0.25)
    expected = gamma / beta / (1 + scale * gamma * curvature)
    assert sum(squares[50:]) / 100 == pytest.approx(expected, rel=0.05)
    assert 0.1 < chain.accepted / chain.proposed <= 1


def test_a_move_to_a_loss_that_is_not_finite_is_refused() -> None:
    def wall(x: Tensor) -> Tensor:
        return torch.where(x.abs() < 1, x.square(), math.nan).sum()

    found = local_entropy(
        landscape_of(wall, torch.zeros(1).double()), FlatnessConfig(beta=4.0, steps=5), 2.0, generator(5)
    )
    assert math.isfinite(found.local_entropy.value) == math.isfinite(found.gradient_norm.value)


def wells(x: Tensor) -> Tensor:
    """A wide well at -2 and a sharp one at 2, equally deep."""
    return -torch.exp(-((x + 2) ** 2) / 2).sum() - torch.exp(-((x - 2) ** 2) / (2 * 0.1**2)).sum()


def test_the_wide_one_of_two_equally_deep_wells_is_the_flat_one() -> None:
    config = FlatnessConfig(gamma=0.2, beta=10.0, steps=20, chains=4)
    wide, sharp = (
        measure(task_of(wells, x).model(), task_of(wells, x), config)
        for x in (torch.full((COPIES,), a).double() for a in (-2.0, 2.0))
    )
    assert abs(wide.loss - sharp.loss) < 1e-2
    assert wide.top_eigenvalue == pytest.approx(1, rel=0.01)
    assert sharp.top_eigenvalue == pytest.approx(100, rel=0.01)
    gap = sharp.smoothed.local_entropy.value - wide.smoothed.local_entropy.value
    assert gap > 4 * (wide.smoothed.local_entropy.stderr + sharp.smoothed.local_entropy.stderr)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gamma", 0.0),
        ("gamma", math.inf),
        ("beta", math.nan),
        ("steps", 0),
        ("chains", 2),
        ("probes", 1),
        ("samples", 0),
    ],
)
def test_a_config_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"Invalid {field}={value}. Must be >"):
        FlatnessConfig(**{field: value})  # type: ignore[arg-type]
