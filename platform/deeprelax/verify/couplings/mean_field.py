"""C8: infinitely many replicas. Parle and Elastic-SGD on the double well against the McKean-Vlasov limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deeprelax.coupling import Coupling, ElasticSgd, Parle
from deeprelax.pde.checks import Convergence, Verdict
from deeprelax.pde.coupled_recursions import NoisyQuadratic, ParleRecursion
from deeprelax.pde.grid import Grid
from deeprelax.pde.mean_field import MeanField
from deeprelax.pde.potentials import F2
from deeprelax.verify.couplings.bed import Group

COUNTS = (2, 4, 8, 16)
LR, NOISE, RHO, STEPS, START = 0.05, 3.0, 4.0, 16, 0.8
# The largest deviation that a correct mean may show.
STANDARD_ERRORS = 4.5
GRID = Grid.covering(-4, 4, LR * NOISE / 2)


def _elastic_sgd(replicas: int) -> Coupling:
    return ElasticSgd(replicas=replicas, period=1, lr=LR, rho=LR * RHO, momentum=0.0)


def _parle(replicas: int) -> Coupling:
    # With L = 1 and outer_lr = 1 this is x - lr g - (x - mean)/rho.
    return Parle(replicas=replicas, period=1, lr=LR, rho=RHO, outer_lr=1.0, averaging=0.0, momentum=0.0, gamma=1.0)


def _errors(coupling: Coupling, limit: Tensor, seed: int) -> Tensor:
    """Return how far the center of each of P groups is from the limit at the end, shape (P,)."""
    paths = 1200
    generator = torch.Generator().manual_seed(seed)

    def noise(replica: int, step: int) -> Tensor:
        del replica, step
        return NOISE * torch.randn(paths, 1, generator=generator, dtype=torch.float64)

    start = torch.full((coupling.replicas, paths, 1), START, dtype=torch.float64)
    group = Group(coupling, F2, start).train(STEPS, noise=noise)
    return group.points("center")[0].squeeze(-1) - limit


def _in_n(errors: Sequence[float]) -> Convergence:
    return Convergence(symbol="n", sizes=COUNTS, errors=tuple(errors), expected=-0.5)


def _spread_on_a_quadratic() -> Verdict:
    variances = []
    for count in COUNTS:
        recursion = ParleRecursion(
            loss=NoisyQuadratic(curvature=2.0, noise=0.5),
            replicas=count,
            period=4,
            gamma=0.5,
            rho=2.0,
            lr=0.05,
            outer_lr=0.6,
            momentum=0.5,
        )
        variances.append(float(recursion.of_period().stationary()[1][-1, -1]))
    claim = "Parle on a quadratic, at rest: the center is off its limit by order -1/2 in n, exactly"
    return Verdict.converges("C8", claim, _in_n([math.sqrt(variance) for variance in variances]), 1e-9)


def c8(seed: int) -> tuple[Verdict, ...]:
    """As n grows the center tends to the mean-field (McKean-Vlasov) limit with order -1/2 in n."""
    law = MeanField(potential=F2, lr=LR, noise=NOISE, pull=1 / RHO, grid=GRID)
    limit = law.means(START, STEPS)[-1]
    verdicts = [_spread_on_a_quadratic()]
    for name, make in (("Elastic-SGD", _elastic_sgd), ("Parle", _parle)):
        errors = [_errors(make(count), limit, seed) for count in COUNTS]
        convergence = _in_n([error.square().mean().sqrt().item() for error in errors])
        claim = f"{name} on F2: the center is off the mean-field limit by order -1/2 in n"
        verdicts.append(Verdict.converges("C8", claim, convergence, 0.1))
        most = errors[-1]
        away = float(most.mean().abs() / (most.std() / len(most) ** 0.5))
        claim = f"{name} on F2: mean of the center of {COUNTS[-1]} replicas against the limit: standard errors away"
        verdicts.append(Verdict.at_most("C8", claim, away, STANDARD_ERRORS, f"limit {float(limit):.4f}"))
    return tuple(verdicts)
