"""C4: the mean of Parle's replicas against Hopf-Lax and, through gradient noise, against the local entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from deeprelax.coupling import Parle
from deeprelax.pde.checks import Convergence, Verdict
from deeprelax.pde.potentials import Potential, random_potential
from deeprelax.verify.couplings.bed import GradientNoise
from deeprelax.verify.couplings.drift import (
    SMALL_STEP,
    STANDARD_ERRORS,
    anchors,
    applied_drift,
    debiased_rms,
    entropy_gradient,
    hopf_lax,
    standard_errors_away,
)
from deeprelax.verify.couplings.laws import BETA, WAVE, gradient_noise, period_drift, smoothing

X = anchors(8)


def _parle(*, replicas: int, lr: float, gamma: float, period: int, averaging: float = 0.0) -> Parle:
    return Parle(
        replicas=replicas,
        lr=lr,
        gamma=gamma,
        rho=2.0,
        period=period,
        averaging=averaging,
        momentum=0.0,
        outer_lr=SMALL_STEP,
    )


def _gaussian(lr: float, points: int, seed: int, *, antithetic: bool = False) -> GradientNoise:
    """Return Langevin noise as gradient noise; ``antithetic``: the second half of each pair of paths sees minus it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(replica: int, step: int) -> Tensor:
        del replica, step
        count = points // 2 if antithetic else points
        drawn = gradient_noise(lr) * torch.randn(count, 1, generator=generator, dtype=torch.float64)
        return torch.stack([drawn, -drawn], 1).reshape(points, 1) if antithetic else drawn

    return draw


def _bias_order(seed: int) -> Verdict:
    gamma, time, paths, replicas, rates = 0.2, 1.6, 2500, 2, (0.03, 0.045, 0.06, 0.08)
    exact = entropy_gradient(WAVE, X, gamma=gamma, beta=BETA)
    errors = []
    for rate in rates:
        coupling = _parle(replicas=replicas, lr=rate, gamma=gamma, period=round(time / rate))
        noise = _gaussian(rate, len(X) * paths, seed, antithetic=True)
        drift = applied_drift(coupling, WAVE, X, scale=SMALL_STEP * gamma, paths=paths, noise=noise)
        errors.append(debiased_rms(drift.reshape(len(X), -1, 2).mean(-1) - exact))
    claim = "with Langevin gradient noise the bias of Parle's mean drift against grad u is of order 1 in its step"
    convergence = Convergence(symbol="η'", sizes=rates, errors=tuple(errors), expected=1.0)
    return Verdict.converges("C4", claim, convergence, 0.4)


def _replica_order(seed: int) -> Verdict:
    gamma, lr, paths, counts = 0.2, 0.05, 1000, (1, 2, 4, 8)
    errors = []
    for count in counts:
        coupling = _parle(replicas=count, lr=lr, gamma=gamma, period=16)
        noise = _gaussian(lr, paths, seed)
        drift = applied_drift(coupling, WAVE, anchors(1), scale=SMALL_STEP * gamma, paths=paths, noise=noise)
        errors.append(drift.std().item())
    claim = "the standard error of Parle's mean drift is of order -1/2 in the replicas n"
    convergence = Convergence(symbol="n", sizes=counts, errors=tuple(errors), expected=-0.5)
    return Verdict.converges("C4", claim, convergence, 0.1)


def c4_on(potential: Potential, seed: int) -> tuple[Verdict, ...]:
    """Return the verdicts on Parle on one potential: without noise, and in law with it."""
    gamma, lr = smoothing(potential)
    quiet = applied_drift(_parle(replicas=3, lr=lr, gamma=gamma, period=200), potential, X, scale=SMALL_STEP * gamma)
    gap = float((quiet - hopf_lax(potential, gamma).gradient(X)).abs().max())
    period, averaging, paths = 8, 0.75, 600
    coupling = _parle(replicas=2, lr=lr, gamma=gamma, period=period, averaging=averaging)
    noise = _gaussian(lr, len(X) * paths, seed)
    noisy = applied_drift(coupling, potential, X, scale=SMALL_STEP * gamma, paths=paths, periods=2, noise=noise)
    law = period_drift(potential, X, gamma=gamma, lr=lr, period=period, averaging=averaging)
    return (
        Verdict.at_most(
            "C4", f"{potential.name}: without noise Parle's drift is grad u of Hopf-Lax: difference", gap, 1e-6
        ),
        Verdict.at_most(
            "C4",
            f"{potential.name}: Parle's mean drift in its second period against its law: standard errors away",
            standard_errors_away(noisy, law),
            STANDARD_ERRORS,
        ),
    )


def c4(seed: int) -> tuple[Verdict, ...]:
    """The mean of Parle's replicas drifts by -grad u: bias of order 1 in its step, noise of order -1/2 in n."""
    return (_bias_order(seed), _replica_order(seed), *c4_on(random_potential(seed), seed))
