"""C5, C6: Parle, EASGD and EAMSGD on a quadratic with Gaussian gradient noise, against their linear recursions.

A linear method answers every gradient error with a fixed response. Each path of the test bed carries one error: 1 at
one step of one replica, 0 elsewhere; path 0 carries none. The responses of the library, collected, are its covariance
under Gaussian noise without drawing any: S = s^2 sum_j r_j r_j'. So the comparison is exact, up to rounding.

Shapes: R replicas, K steps, S = R + 1 (the replicas and the center).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deeprelax.coupling import Coupling, Eamsgd, Easgd, Parle
from deeprelax.pde.checks import Verdict
from deeprelax.pde.coupled_recursions import EasgdRecursion, NoisyQuadratic, ParleRecursion
from deeprelax.pde.linear_recursion import LinearRecursion
from deeprelax.pde.potentials import quadratic
from deeprelax.verify.couplings.bed import Group

ROUNDING = 1e-12
# Largest distance from rest after 20 exchanges, from a start about 1 away, in units of radius^20.
AT_REST = 5.0
LOSS = NoisyQuadratic(curvature=2.0, minimum=0.7, noise=0.5)
POTENTIAL = quadratic(
    torch.tensor([[LOSS.curvature]], dtype=torch.float64), center=torch.tensor([LOSS.minimum], dtype=torch.float64)
)
REPLICAS, PERIOD, EXCHANGES = 3, 4, 20
# The largest of the deviations of a Gaussian sample that a correct mean and covariance may show.
STANDARD_ERRORS = 4.5


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """A method, and what it is on the quadratic: the recursion of a period from the state ``start``."""

    name: str
    coupling: Coupling
    vector: str
    recursion: LinearRecursion
    start: Tensor

    def seen(self, moments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of replicas and center, shapes (S,) and (S, S), out of those of the state."""
        index = torch.tensor([*range(REPLICAS), len(self.start) - 1])
        return moments[0][index], moments[1][index][:, index]


def _starts(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 + torch.randn(REPLICAS, generator=generator, dtype=torch.float64)


def library_moments(coupling: Coupling, vector: str, starts: Tensor, *, exchanges: int) -> tuple[Tensor, Tensor]:
    """Return mean, shape (S,), and covariance, shape (S, S), of replicas and center after ``exchanges`` exchanges.

    Args:
        coupling: linear on a quadratic, of constant period.
        vector: name of the replicas' weights, such as ``anchor``.
        starts: shape (R,).
        exchanges: how many.
    """
    count, steps = len(starts), exchanges * round(coupling.period.start)
    paths = 1 + count * steps

    def impulse(replica: int, step: int) -> Tensor:
        noise = torch.zeros(paths, 1, dtype=torch.float64)
        noise[1 + replica * steps + step] = LOSS.noise
        return noise

    group = Group(coupling, POTENTIAL, starts[:, None, None].expand(-1, paths, 1))
    group.train(steps, noise=impulse)
    states = torch.cat([group.points(vector), group.points("center")[:1]]).squeeze(-1)
    responses = states[:, 1:] - states[:, :1]
    return states[:, 0], responses @ responses.T


def _difference(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(left, right, strict=True))


def _exact(key: str, case: _Case) -> tuple[Verdict, Verdict]:
    found = library_moments(case.coupling, case.vector, case.start[:REPLICAS], exchanges=EXCHANGES)
    moving = _difference(found, case.seen(case.recursion.repeated(EXCHANGES).moments(case.start)))
    at_rest = _difference(found, case.seen(case.recursion.stationary()))
    radius = case.recursion.spectral_radius
    rest = f"spectral radius {radius:.3f}"
    claim = f"{case.name}: mean and covariance of replicas and center"
    return (
        Verdict.at_most(key, f"{claim}: difference from the recursion", moving, ROUNDING),
        Verdict.at_most(
            key, f"{claim}: distance from those at rest (Lyapunov)", at_rest, AT_REST * radius**EXCHANGES, rest
        ),
    )


def _sampled(key: str, case: _Case, seed: int) -> Verdict:
    paths, exchanges = 4000, 5
    generator = torch.Generator().manual_seed(seed)

    def gaussian(replica: int, step: int) -> Tensor:
        del replica, step
        return LOSS.noise * torch.randn(paths, 1, generator=generator, dtype=torch.float64)

    group = Group(case.coupling, POTENTIAL, case.start[:REPLICAS, None, None].expand(-1, paths, 1))
    group.train(exchanges * PERIOD, noise=gaussian)
    states = torch.cat([group.points(case.vector), group.points("center")[:1]]).squeeze(-1)
    mean, covariance = case.seen(case.recursion.repeated(exchanges).moments(case.start))
    variance = covariance.diagonal()
    mean_errors = (states.mean(1) - mean).abs() / (variance / paths).sqrt()
    # Isserlis: the product of two Gaussians has variance S_ii S_jj + S_ij^2.
    spread = ((variance[:, None] * variance + covariance.square()) / paths).sqrt()
    worst = max(float(mean_errors.max()), float(((torch.cov(states) - covariance).abs() / spread).max()))
    claim = f"{case.name}: mean and covariance under Gaussian noise: standard errors away"
    return Verdict.at_most(key, claim, worst, STANDARD_ERRORS)


def _parle(start: Tensor, momentum: float, outer_momentum: float, averaging: float) -> _Case:
    numbers: dict[str, Any] = {
        "gamma": 0.5,
        "rho": 2.0,
        "lr": 0.05,
        "outer_lr": 0.6,
        "averaging": averaging,
        "momentum": momentum,
        "outer_momentum": outer_momentum,
        "replicas": REPLICAS,
        "period": PERIOD,
    }
    made = ParleRecursion(loss=LOSS, **numbers)
    name = f"Parle, momenta {momentum:g} and {outer_momentum:g}, averaging {averaging:g}"
    return _Case(
        name=name,
        coupling=Parle(**numbers),
        vector="anchor",
        recursion=made.of_period(),
        start=made.start(start),
    )


def _easgd(start: Tensor, period: int, momentum: float) -> _Case:
    numbers: dict[str, Any] = {
        "lr": 0.02 if momentum else 0.1,
        "elasticity": 0.9,
        "momentum": momentum,
        "replicas": REPLICAS,
        "period": period,
    }
    made = EasgdRecursion(loss=LOSS, **numbers)
    method = Eamsgd if momentum else Easgd
    return _Case(
        name=f"{method.__name__}, momentum {momentum:g}, period {period}",
        coupling=method(**numbers),
        vector="fast",
        recursion=made.of_period(),
        start=made.start(start),
    )


def c5(seed: int) -> tuple[Verdict, ...]:
    """Parle on a quadratic has the mean and the covariance of its linear recursion, with both momenta."""
    start = _starts(seed)
    plain, both = _parle(start, 0.0, 0.0, 0.0), _parle(start, 0.6, 0.5, 0.75)
    return (*_exact("C5", plain), *_exact("C5", both), _sampled("C5", both, seed))


def c6(seed: int) -> tuple[Verdict, ...]:
    """EASGD and EAMSGD on a quadratic have the mean and the covariance of their linear recursion."""
    start = _starts(seed)
    every, rare, heavy = _easgd(start, 1, 0.0), _easgd(start, PERIOD, 0.0), _easgd(start, PERIOD, 0.9)
    return (
        *_exact("C6", every),
        *_exact("C6", rare),
        *_exact("C6", heavy),
        _sampled("C6", heavy, seed),
    )
