"""T5, T6, T6b: the stochastic processes against the quadrature."""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import torch
from torch import Tensor

from deeprelax.pde.chain_law import ChainLaw
from deeprelax.pde.checks.verdict import Convergence, Verdict
from deeprelax.pde.grid import Grid
from deeprelax.pde.inner_chain import InnerChain
from deeprelax.pde.local_entropy import LocalEntropy
from deeprelax.pde.potentials import F2
from deeprelax.pde.sde import fast_slow, homogenized

# Standard errors that a correct Monte-Carlo mean may be off; one in 16000 runs is further.
STANDARD_ERRORS = 4.0
WIDE = Grid.covering(-6, 6, 0.02)
X = torch.tensor([0.3], dtype=torch.float64)


class InnerSampler(Protocol):
    """Anything that estimates <y> stochastically: the reference below, or the inner loop of a coupling."""

    def __call__(self, chain: InnerChain, *, steps: int, paths: int, generator: torch.Generator) -> Tensor:
        """Return independent estimates of <y>, shape (paths, d), each made of ``steps`` steps from y = ``chain.x``."""
        ...


def reference_sampler(chain: InnerChain, *, steps: int, paths: int, generator: torch.Generator) -> Tensor:
    """Return the mean of the second half of each path, shape (paths, d). See :class:`InnerSampler`."""
    return chain.path(steps=steps, paths=paths, generator=generator)[steps // 2 :].mean(0)


def _double_well(inner_lr: float) -> InnerChain:
    return InnerChain(potential=F2, x=X, gamma=1.0, beta=1.0, inner_lr=inner_lr)


@functools.cache
def _law_mean(inner_lr: float) -> float:
    return ChainLaw(chain=_double_well(inner_lr), grid=Grid.covering(-4, 4, 0.02)).stationary_mean()


def t5(seed: int, sampler: InnerSampler = reference_sampler) -> tuple[Verdict, ...]:
    """The inner sampler targets exp(-beta H): <y> = .195 on F2, not the .355 of noise 1/beta.

    Args:
        seed: of the noise.
        sampler: what is checked; must have forgotten its start within 1500 steps.
    """
    exact = LocalEntropy(potential=F2, gamma=1.0, beta=1.0, grid=WIDE).mean(X).item()
    inner_lr = 0.01
    generator = torch.Generator().manual_seed(seed)
    estimates = sampler(_double_well(inner_lr), steps=1500, paths=3000, generator=generator)
    mean = estimates.mean().item()
    error = estimates.std().item() / len(estimates) ** 0.5
    biased = _law_mean(inner_lr)
    detail = f"sampled {mean:.4f}, standard error {error:.4f}, this step's own law {biased:.4f}, quadrature {exact:.4f}"
    claim = "the sampled <y> is the mean of its chain's law: standard errors away"
    return (
        Verdict.at_most("T5", "the quadrature <y> of F2 at x = .3 is .195", abs(exact - 0.195), 5e-4),
        Verdict.at_most("T5", claim, abs(mean - biased) / error, STANDARD_ERRORS, detail),
        Verdict.at_most("T5", "the sampled <y> is near the quadrature", abs(mean - exact), 0.04, detail),
        _bias_order(exact),
        _wrong_noise(generator, exact),
    )


def _bias_order(exact: float) -> Verdict:
    rates = (0.0025, 0.005, 0.01, 0.02)
    errors = tuple(abs(_law_mean(rate) - exact) for rate in rates)
    convergence = Convergence(symbol="η'", sizes=rates, errors=errors, expected=1.0)
    return Verdict.converges("T5", "the bias of SGLD is of order 1 in its step", convergence, 0.1)


def _wrong_noise(generator: torch.Generator, exact: float) -> Verdict:
    chain = dataclasses.replace(_double_well(0.01), noise_factor=1.0)
    mean = reference_sampler(chain, steps=1500, paths=1000, generator=generator).mean().item()
    claim = "with noise 1/beta for 2/beta <y> is wrong by at least"
    return Verdict.at_least("T5", claim, abs(mean - exact), 0.1, f"sampled {mean:.3f} where the wrong law has .355")


def t6(seed: int) -> tuple[Verdict, ...]:
    """Homogenization: the fast-slow SDE follows -grad u, with an error of order sqrt(epsilon)."""
    gamma, beta, horizon = 0.2, 4.0, 1.0
    generator = torch.Generator().manual_seed(seed)
    entropy = LocalEntropy(potential=F2, gamma=gamma, beta=beta, grid=WIDE)
    start = torch.full((1, 1), 1.8, dtype=torch.float64)
    limit = homogenized(entropy.gradient, start, horizon=horizon, steps=100)
    epsilons = (0.3, 0.1, 0.03, 0.01)
    errors = []
    for epsilon in epsilons:
        end = fast_slow(
            F2,
            start.expand(400, 1),
            gamma=gamma,
            beta=beta,
            epsilon=epsilon,
            horizon=horizon,
            step_size=min(2e-3, epsilon / 100),
            generator=generator,
        )
        errors.append((end - limit).abs().mean().item())
    ratios = [error / epsilon**0.5 for error, epsilon in zip(errors, epsilons, strict=True)]
    convergence = Convergence(symbol="ε", sizes=epsilons, errors=tuple(errors), expected=0.5)
    detail = "E|x - X|/sqrt(eps) " + " ".join(f"{ratio:.3f}" for ratio in ratios)
    return (
        Verdict.at_most("T6", "E|x - X|/sqrt(eps) stays bounded for eps = .3 .1 .03 .01", max(ratios), 0.12, detail),
        Verdict.converges("T6", "E|x - X| is of order 1/2 in eps", convergence, 0.12),
    )


def t6b(seed: int) -> tuple[Verdict, ...]:
    """Many replicas are worth a time average: n of them for a time T are one for a time n T."""
    gamma, repeats = 0.1, 400
    generator = torch.Generator().manual_seed(seed)
    entropy = LocalEntropy(potential=F2, gamma=gamma, beta=1.0, grid=WIDE)
    chain = InnerChain(potential=F2, x=X, gamma=gamma, beta=1.0, inner_lr=0.01)
    mean = ChainLaw(chain=chain, grid=Grid.covering(-3, 3, 0.03)).stationary_mean()
    replicas, length = (1, 2, 4, 8, 16), 100

    def path(steps: int, paths: int) -> Tensor:
        start = entropy.sample(X, paths, generator)
        return chain.path(steps=steps, paths=paths, generator=generator, start=start).squeeze(-1)

    alone = path(length * replicas[-1], repeats)
    by_time = tuple(_rms(alone[: length * n].mean(0) - mean) for n in replicas)
    together = path(length, repeats * replicas[-1]).mean(0).reshape(repeats, -1)
    by_replicas = tuple(_rms(together[:, :n].mean(1) - mean) for n in replicas)
    times = tuple(chain.inner_lr * length * n for n in replicas)
    in_n = Convergence(symbol="n", sizes=replicas, errors=by_replicas, expected=-0.5)
    in_time = Convergence(symbol="T", sizes=times, errors=by_time, expected=-0.5)
    ratio = by_replicas[-1] / by_time[-1]
    detail = f"errors {by_replicas[-1]:.4f} and {by_time[-1]:.4f}"
    return (
        Verdict.converges("T6b", "n replicas: the error of <y> is of order -1/2 in n", in_n, 0.1),
        Verdict.converges("T6b", "one replica: the error of <y> is of order -1/2 in time", in_time, 0.1),
        Verdict.at_most(
            "T6b", "16 replicas for T against one for 16 T: |ratio of errors - 1|", abs(ratio - 1), 0.25, detail
        ),
    )


def _rms(errors: Tensor) -> float:
    return errors.square().mean().sqrt().item()
