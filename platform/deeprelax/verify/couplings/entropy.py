"""C1, T5c: Entropy-SGD against the quadrature of the local entropy."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from deeprelax.coupling import EntropySgd
from deeprelax.pde.checks import Convergence, Verdict, t5
from deeprelax.pde.inner_chain import InnerChain
from deeprelax.pde.potentials import Potential, quadratic, random_potential
from deeprelax.verify.couplings.bed import Group
from deeprelax.verify.couplings.drift import (
    SMALL_STEP,
    STANDARD_ERRORS,
    anchors,
    applied_drift,
    debiased_rms,
    entropy_gradient,
    mirrored,
    standard_errors_away,
)
from deeprelax.verify.couplings.laws import BETA, WAVE, period_drift, resting_drift, smoothing


def entropy_sgd_sampler(chain: InnerChain, *, steps: int, paths: int, generator: torch.Generator) -> Tensor:
    """Return where one outer step of length 1 takes x, shape (paths, d): z, a running average of y.

    The library's own inner loop as an :class:`~deeprelax.pde.checks.InnerSampler`. The average spans an eighth of the
    period, so that it has forgotten its start.
    """
    coupling = EntropySgd(
        lr=chain.inner_lr,
        gamma=chain.gamma,
        beta=chain.beta,
        period=steps,
        averaging=1 - 8 / steps,
        momentum=0.0,
        outer_lr=1.0,
    )
    seed = int(torch.randint(2**31, (), generator=generator))
    group = Group(coupling, chain.potential, chain.x.expand(1, paths, -1), seed=seed)
    return group.train(steps).points("anchor")[0]


def t5c(seed: int) -> tuple[Verdict, ...]:
    """Entropy-SGD's own inner loop targets exp(-beta H): <y> = .195 on F2."""
    return tuple(dataclasses.replace(verdict, key="T5c") for verdict in t5(seed, entropy_sgd_sampler))


def _entropy_sgd(*, lr: float, gamma: float, period: int, averaging: float) -> EntropySgd:
    return EntropySgd(
        lr=lr, gamma=gamma, beta=BETA, period=period, averaging=averaging, momentum=0.0, outer_lr=SMALL_STEP
    )


def _bias_order(seed: int) -> Verdict:
    gamma, time, paths, rates = 0.2, 1.6, 2500, (0.03, 0.045, 0.06, 0.08)
    x, scale = anchors(8), SMALL_STEP * gamma
    exact = entropy_gradient(WAVE, x, gamma=gamma, beta=BETA)
    errors = []
    for rate in rates:
        coupling = _entropy_sgd(lr=rate, gamma=gamma, period=round(time / rate), averaging=0.0)
        there = applied_drift(coupling, WAVE, x, scale=scale, paths=paths, seed=seed)
        back = -applied_drift(coupling, mirrored(WAVE), -x, scale=scale, paths=paths, seed=seed)
        errors.append(debiased_rms((there + back) / 2 - exact))
    claim = "the bias of Entropy-SGD's drift against the quadrature of grad u is of order 1 in its step"
    convergence = Convergence(symbol="η'", sizes=rates, errors=tuple(errors), expected=1.0)
    return Verdict.converges("C1", claim, convergence, 0.4)


def _noise_order(seed: int) -> Verdict:
    gamma, periods = 0.2, (50, 100, 200, 400)
    errors = []
    for period in periods:
        coupling = _entropy_sgd(lr=0.05, gamma=gamma, period=period, averaging=1 - 5 / period)
        drift = applied_drift(coupling, WAVE, anchors(1), scale=SMALL_STEP * gamma, paths=1000, seed=seed)
        errors.append(drift.std().item())
    claim = "the standard error of Entropy-SGD's drift, averaged over L/5 steps, is of order -1/2 in L"
    convergence = Convergence(symbol="L", sizes=periods, errors=tuple(errors), expected=-0.5)
    return Verdict.converges("C1", claim, convergence, 0.1)


def c1_on(potential: Potential, seed: int) -> tuple[Verdict, ...]:
    """Return the verdicts on Entropy-SGD's drift on one potential: the exact law, and the order of that law's bias."""
    gamma, lr = smoothing(potential)
    x, period, averaging = anchors(8), 8, 0.75
    coupling = _entropy_sgd(lr=lr, gamma=gamma, period=period, averaging=averaging)
    drift = applied_drift(coupling, potential, x, scale=SMALL_STEP * gamma, paths=800, periods=2, seed=seed)
    law = period_drift(potential, x, gamma=gamma, lr=lr, period=period, averaging=averaging)
    exact = entropy_gradient(potential, x, gamma=gamma, beta=BETA)
    rates = tuple(lr / 2**halvings for halvings in range(4))
    biases = [resting_drift(potential, x, gamma=gamma, lr=rate) - exact for rate in rates]
    errors = tuple(float(bias.square().mean().sqrt()) for bias in biases)
    convergence = Convergence(symbol="η'", sizes=rates, errors=errors, expected=1.0)
    return (
        Verdict.at_most(
            "C1",
            f"{potential.name}: Entropy-SGD's drift in its second period against its law: standard errors away",
            standard_errors_away(drift, law),
            STANDARD_ERRORS,
        ),
        Verdict.converges("C1", f"{potential.name}: the bias of that law is of order 1 in its step", convergence, 0.3),
    )


def _colder_with_momentum(seed: int) -> Verdict:
    # Noise enters y once, a gradient 1/(1 - m) times: on a quadratic of stiffness k in all, var y = (1 - m)/(beta k).
    gamma, momentum, paths, steps = 0.5, 0.5, 8000, 120
    bowl = quadratic(torch.tensor([[2.0]], dtype=torch.float64))
    coupling = EntropySgd(lr=4e-3, gamma=gamma, beta=BETA, period=steps, averaging=0.0, momentum=momentum, outer_lr=1.0)
    group = Group(coupling, bowl, torch.zeros(1, paths, 1, dtype=torch.float64), seed=seed).train(steps)
    ratio = group.points("anchor").var().item() * BETA * (2.0 + 1 / gamma) / (1 - momentum)
    claim = "with momentum m Entropy-SGD's chain samples beta/(1 - m): relative difference of its variance"
    return Verdict.at_most("C1", claim, abs(ratio - 1), 0.1)


def c1(seed: int) -> tuple[Verdict, ...]:
    """The drift of Entropy-SGD is -grad u: bias of order 1 in its step, noise of order -1/2 in L."""
    potential = random_potential(seed)
    return (_bias_order(seed), _noise_order(seed), *c1_on(potential, seed), _colder_with_momentum(seed))
