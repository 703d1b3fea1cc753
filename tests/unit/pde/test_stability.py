"""The spectral radii against the iterations themselves, run by hand or by torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deeprelax.pde import (
    spectral_radius_damped,
    spectral_radius_easgd,
    spectral_radius_inner,
    spectral_radius_nesterov,
)

STEPS = 400


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("lr", "momentum"), [(0.3, 0.9), (1.3, 0.9), (1.4, 0.9), (1.9, 0.0), (2.1, 0.0), (1.5, 0.5)])
def test_nesterov_radius_is_the_growth_of_torch_sgd(lr: float, momentum: float) -> None:
    y = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([y], lr=lr, momentum=momentum, nesterov=momentum > 0)
    sizes = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        (y.square() / 2).sum().backward()
        optimizer.step()
        sizes.append(y.abs().item())
    # The largest of a late window, since complex eigenvalues make the iterate swing through zero.
    growth = (max(sizes[-50:]) / max(sizes[-150:-100])) ** (1 / 100)
    assert growth == pytest.approx(spectral_radius_nesterov(number(lr), number(momentum)).item(), rel=0.02)


@pytest.mark.parametrize(("lr", "alpha", "replicas"), [(0.1, 0.2, 4), (1.0, 0.3, 4), (1.8, 0.2, 2), (0.5, 0.5, 3)])
def test_easgd_radius_is_the_growth_of_the_iteration(lr: float, alpha: float, replicas: int) -> None:
    x = torch.linspace(1, 2, replicas, dtype=torch.float64)
    center = number(-1.0)
    for step in range(STEPS):
        x, center = x - lr * x - alpha * (x - center), (1 - replicas * alpha) * center + alpha * x.sum()
        if step == STEPS - 2:
            before = torch.cat([x, center.reshape(1)]).norm()
    growth = torch.cat([x, center.reshape(1)]).norm() / before
    assert growth.item() == pytest.approx(spectral_radius_easgd(number(lr), number(alpha), replicas).item(), rel=1e-6)


def test_easgd_radius_survives_many_equal_replicas() -> None:
    generator = torch.Generator().manual_seed(0)
    h, alpha = torch.rand(2, 2000, generator=generator, dtype=torch.float64)
    assert spectral_radius_easgd(3 * h, 1.5 * alpha, 16).isfinite().all()


@pytest.mark.parametrize(("gamma_h", "averaging"), [(0.5, 0.0), (1.5, 0.0), (2.0, 0.75), (8.0, 0.75)])
def test_damped_radius_is_the_growth_of_the_iteration(gamma_h: float, averaging: float) -> None:
    rest = 1 / (1 + gamma_h)
    p = [number(2.0)]
    for _ in range(3):
        p.append(averaging * p[-1] + (1 - averaging) * (1 - gamma_h * p[-1]))
    growth = abs((p[3] - rest) / (p[2] - rest))
    assert growth.item() == pytest.approx(spectral_radius_damped(number(gamma_h), number(averaging)).item())


def test_inner_radius_is_that_of_the_slowest_direction() -> None:
    hessian = torch.diag(torch.tensor([-1.0, 4.0], dtype=torch.float64))
    assert spectral_radius_inner(hessian, number(0.5), number(0.1)).item() == pytest.approx(1 - 0.1 * (2 - 1))
    assert spectral_radius_inner(hessian, number(2.0), number(0.1)).item() > 1
