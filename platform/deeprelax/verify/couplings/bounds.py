"""C7: the stability bounds that the couplings refuse to cross, against spectral radii and the couplings themselves.

Each case is built so that the spring's mode is the fastest one. One gradient error at the first step sets it off; the
couplings run on, and the error has shrunk or grown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.coupling import Coupling, Easgd, ElasticSgd, EntropySgd, Hj, Parle
from deeprelax.coupling.stability import elastic_limit, fixed_point_limit, nesterov_limit
from deeprelax.errors import UnstableError
from deeprelax.pde.checks import Verdict
from deeprelax.pde.coupled_recursions import EasgdRecursion, NoisyQuadratic, ParleRecursion
from deeprelax.pde.potentials import quadratic
from deeprelax.pde.stability import spectral_radius_damped, spectral_radius_nesterov
from deeprelax.schedules import Position
from deeprelax.verify.couplings.bed import Group

FACTORS = (0.95, 1.05)
MOMENTA = (0.0, 0.9)
STEPS = 60
# Little curvature of the loss itself beside the springs: the mode that moves all weights alike just shrinks.
FLAT = 0.01


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A coupling with its spring at ``factor`` times the bound, and the radius of its recursion.

    Args:
        checked: whether ``check_stable`` knows the bound.
    """

    factor: float
    coupling: Coupling
    curvature: float
    vector: str
    radius: float
    checked: bool = True


def _inner_springs() -> Iterable[_Case]:
    for momentum in MOMENTA:
        for factor in FACTORS:
            lr = 0.1
            gamma = lr / (factor * nesterov_limit(momentum))
            recursion = ParleRecursion(
                loss=NoisyQuadratic(curvature=FLAT),
                replicas=1,
                period=1,
                gamma=gamma,
                rho=math.inf,
                lr=lr,
                outer_lr=1.0,
                momentum=momentum,
            )
            coupling = EntropySgd(lr=lr, gamma=gamma, averaging=0.0, momentum=momentum, period=2 * STEPS)
            radius = recursion.of_inner_step().spectral_radius
            yield _Case(factor=factor, coupling=coupling, curvature=FLAT, vector="fast", radius=radius)


def _outer_springs() -> Iterable[_Case]:
    for momentum in MOMENTA:
        for factor in FACTORS:
            # lr h = 1: one inner step takes y to the minimum, so z stands still and the force is x + (x - mean)/rho.
            outer_lr, curvature = 0.3, 4.0
            rho = 1 / (factor * nesterov_limit(momentum) / outer_lr - 1)
            recursion = ParleRecursion(
                loss=NoisyQuadratic(curvature=curvature),
                replicas=2,
                period=1,
                gamma=math.inf,
                rho=rho,
                lr=1 / curvature,
                outer_lr=outer_lr,
                outer_momentum=momentum,
            )
            coupling = Parle(
                replicas=2,
                period=1,
                gamma=math.inf,
                rho=rho,
                lr=1 / curvature,
                outer_lr=outer_lr,
                outer_momentum=momentum,
                momentum=0.0,
                averaging=0.0,
            )
            radius = recursion.of_period().spectral_radius
            yield _Case(factor=factor, coupling=coupling, curvature=curvature, vector="fast", radius=radius)


def _elastic() -> Iterable[_Case]:
    for replicas in (1, 4):
        for factor in FACTORS:
            elasticity = factor * elastic_limit(replicas)
            recursion = EasgdRecursion(
                loss=NoisyQuadratic(curvature=FLAT), replicas=replicas, period=1, lr=0.1, elasticity=elasticity
            )
            coupling = Easgd(replicas=replicas, period=1, lr=0.1, elasticity=elasticity)
            radius = recursion.of_period().spectral_radius
            yield _Case(factor=factor, coupling=coupling, curvature=FLAT, vector="fast", radius=radius)


def _springs_at_every_step() -> Iterable[_Case]:
    for momentum in MOMENTA:
        for factor in FACTORS:
            product = factor * nesterov_limit(momentum)
            coupling = ElasticSgd(replicas=2, period=1, lr=0.1, rho=0.1 / product, momentum=momentum)
            radius = spectral_radius_nesterov(_number(product), _number(momentum)).item()
            yield _Case(factor=factor, coupling=coupling, curvature=FLAT, vector="fast", radius=radius)


def _fixed_points() -> Iterable[_Case]:
    for damping in (0.0, 0.75):
        for factor in FACTORS:
            gamma, curvature = 0.5, factor * fixed_point_limit(damping) / 0.5
            coupling = Hj(variant="fixed_point", gamma=gamma, damping=damping, lr=0.1, period=2 * STEPS)
            radius = spectral_radius_damped(_number(gamma * curvature), _number(damping)).item()
            yield _Case(
                factor=factor, coupling=coupling, curvature=curvature, vector="direction", radius=radius, checked=False
            )


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _refused(coupling: Coupling) -> bool:
    try:
        coupling.check_stable([Position()])
    except UnstableError:
        return True
    return False


def _growth(case: _Case) -> float:
    """Return the factor by which the error of the first step has grown, largest of 20 late against 20 early steps.

    Path 1 carries the error, path 0 none; their difference is the error.
    """
    errors: list[float] = []

    def first_error(replica: int, step: int) -> Tensor:
        noise = torch.zeros(2, 1, dtype=torch.float64)
        noise[1] = float(step == 0 and replica == 0)
        return noise

    start = torch.zeros(case.coupling.replicas, 2, 1, dtype=torch.float64)
    potential = quadratic(torch.tensor([[case.curvature]], dtype=torch.float64))
    group = Group(case.coupling, potential, start)

    def watch(replica: object) -> None:
        if replica is group.replicas[-1]:
            seen = group.points(case.vector)
            errors.append(float((seen[:, 1] - seen[:, 0]).abs().max()))

    group.train(STEPS, noise=first_error, watch=watch)
    return max(errors[-20:]) / max(errors[10:30])


def _verdict(bound: str, cases: Callable[[], Iterable[_Case]]) -> Verdict:
    mismatches, count = 0, 0
    for case in cases():
        count += 1
        unstable = case.factor > 1
        said = [case.radius > 1, _growth(case) > 1]
        said += [_refused(case.coupling)] if case.checked else []
        mismatches += said != [unstable] * len(said)
    claim = f"{bound}: cases where bound, spectral radius, refusal and the run itself disagree"
    return Verdict.at_most("C7", claim, mismatches, 0, f"{count} cases at .95 and 1.05 of the bound")


def c7(seed: int) -> tuple[Verdict, ...]:
    """Each coupling is refused exactly where its recursion, and it itself, diverges (deterministic: no seed)."""
    del seed
    return (
        _verdict("inner spring, lr/gamma < 2(1+m)/(1+2m)", _inner_springs),
        _verdict("outer spring, outer_lr (1 + 1/rho) < 2(1+m)/(1+2m)", _outer_springs),
        _verdict("spring of Elastic-SGD, lr/rho < 2(1+m)/(1+2m)", _springs_at_every_step),
        _verdict("EASGD, n alpha < 2n/(n+1)", _elastic),
        _verdict("HJ fixed point, gamma h < (1+d)/(1-d)", _fixed_points),
    )
