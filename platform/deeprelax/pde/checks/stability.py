"""T13: the closed-form stability bounds against the eigenvalues of the recursions."""

from __future__ import annotations

import torch
from torch import Tensor

from deeprelax.pde.checks.verdict import Verdict
from deeprelax.pde.stability import (
    spectral_radius_damped,
    spectral_radius_easgd,
    spectral_radius_inner,
    spectral_radius_nesterov,
)

POINTS = 2000
REPLICAS = (1, 2, 4, 8)
# Closer to 1 than this the eigenvalue solver cannot tell the side.
MARGIN = 1e-7


def _mismatches(radius: Tensor, stable: Tensor) -> int:
    return int((((radius < 1) != stable) & ((radius - 1).abs() > MARGIN)).sum())


def _verdict(bound: str, radius: Tensor, stable: Tensor) -> Verdict:
    count = int(stable.sum())
    detail = f"{count} stable and {len(stable) - count} unstable points"
    return Verdict.at_most("T13", f"mismatches of {bound}", _mismatches(radius, stable), 0, detail)


def t13(seed: int) -> tuple[Verdict, ...]:
    """The stability formulas say the same as the eigenvalues, on 8000 random points."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(POINTS, generator=generator, dtype=torch.float64)

    h, m = uniform(0, 3), uniform(0, 1)
    nesterov = h < 2 * (1 + m) / (1 + 2 * m)
    curvature, averaging = uniform(0, 10), uniform(0, 0.9)
    damped = curvature < (1 + averaging) / (1 - averaging)
    return (
        _verdict("lr h < 2(1+m)/(1+2m), torch-Nesterov", spectral_radius_nesterov(h, m), nesterov),
        _easgd(uniform(0, 3), uniform(0, 1.5)),
        _verdict("gamma h < (1+a)/(1-a), damped fixed point", spectral_radius_damped(curvature, averaging), damped),
        _inner_chain(generator, uniform(0.1, 2.0)),
    )


def _easgd(h: Tensor, alpha: Tensor) -> Verdict:
    radius, stable = [], []
    for replicas, step, pull in zip(REPLICAS, h.chunk(len(REPLICAS)), alpha.chunk(len(REPLICAS)), strict=True):
        radius.append(spectral_radius_easgd(step, pull, replicas))
        room = (2 - step) * (2 - replicas * pull) / 2
        stable.append((step < 2) & (replicas * pull < 2) & (pull < room))
    return _verdict("the region of synchronous EASGD", torch.cat(radius), torch.cat(stable))


def _inner_chain(generator: torch.Generator, gamma: Tensor) -> Verdict:
    square = torch.randn(POINTS, 3, 3, generator=generator, dtype=torch.float64)
    hessian = (square + square.mT) / 2
    eigenvalues = torch.linalg.eigvalsh(hessian) + 1 / gamma.unsqueeze(-1)
    # The largest step that does not overshoot any direction, so that the slowest direction alone sets the radius.
    inner_lr = 1 / eigenvalues.abs().amax(-1)
    radius = spectral_radius_inner(hessian, gamma, inner_lr)
    return _verdict("1/gamma + (smallest eigenvalue) > 0, inner chain", radius, eigenvalues[:, 0] > 0)
