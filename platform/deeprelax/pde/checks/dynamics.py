"""T7, T9: stochastic control and the contraction of the auxiliary Fokker-Planck equation."""

from __future__ import annotations

import functools
import math

import torch

from deeprelax.pde.checks.verdict import Convergence, Verdict
from deeprelax.pde.control import ControlProblem, PathCosts
from deeprelax.pde.curves import Decay, decay
from deeprelax.pde.fokker_planck import AuxiliaryFokkerPlanck, contraction_rate
from deeprelax.pde.grid import Grid
from deeprelax.pde.inner_chain import InnerChain
from deeprelax.pde.potentials import F2, tilt

STANDARD_ERRORS = 4.0
START = 1.0
PATHS, STEPS = 20000, (25, 50, 100, 400)
CONTRACTING_GAMMA = 0.1


@functools.cache
def control_problem(steps: int) -> ControlProblem:
    """Return the problem of T7: F2 + .3 y both descended and wanted low at T = 1, beta = 2."""
    tilted = tilt(F2, torch.tensor([0.3], dtype=torch.float64))
    return ControlProblem(
        loss=tilted, terminal=tilted, beta=2.0, horizon=1.0, steps=steps, grid=Grid(low=-3, high=3, points=301)
    )


def _controlled(seed: int) -> dict[int, PathCosts]:
    """Return what the controlled paths pay, by the number of steps of the clock."""
    return {
        steps: control_problem(steps).simulate(
            START, paths=PATHS, controlled=True, generator=torch.Generator().manual_seed(seed)
        )
        for steps in STEPS
    }


def _pathwise_errors(paid: dict[int, PathCosts]) -> Convergence:
    errors = {}
    for steps, costs in paid.items():
        problem = control_problem(steps)
        whole = (costs.terminal + costs.energy + costs.martingale).mean().item()
        errors[problem.dt] = abs(whole - problem.value_at(START))
    return Convergence(symbol="dt", sizes=tuple(errors), errors=tuple(errors.values()), expected=1.0)


def t7(seed: int) -> tuple[Verdict, ...]:
    """The control a = -grad u lowers the expected loss, and costs what the value function says."""
    problem, by_steps = control_problem(STEPS[-1]), _controlled(seed)
    paid = by_steps[STEPS[-1]]
    generator = torch.Generator().manual_seed(seed + 1)
    plain = problem.simulate(START, paths=PATHS, controlled=False, generator=generator).terminal
    value = problem.value_at(START)
    weights = torch.exp(-problem.beta * plain)
    sampled = -math.log(weights.mean().item()) / problem.beta
    spread = (weights.std() / weights.mean()).item() / problem.beta / len(plain) ** 0.5
    cost = paid.terminal + paid.energy
    error = cost.std().item() / len(cost) ** 0.5
    # The weak error of the Euler scheme at this step, see the order below.
    bias = 3e-3
    sgd, controlled = plain.mean().item(), paid.terminal.mean().item()
    exact = problem.expected_losses(START)
    losses = f"sampled SGD {sgd:.4f}, controlled {controlled:.4f}; exact {exact[0]:.4f}, {exact[1]:.4f}"
    claim = "V + int |a|^2/2 + int a.dW is u(x0, 0), with order 1 in dt"
    return (
        Verdict.at_most(
            "T7",
            "E V + E int |a|^2/2 of the controlled paths is u(x0, 0)",
            abs(cost.mean().item() - value),
            STANDARD_ERRORS * error + bias,
            f"{cost.mean().item():.4f} against {value:.4f}",
        ),
        Verdict.at_most(
            "T7",
            "-1/beta log E_sgd exp(-beta V) is u(x0, 0)",
            abs(sampled - value),
            STANDARD_ERRORS * spread + bias,
            f"{sampled:.4f} against {value:.4f}",
        ),
        Verdict.converges("T7", claim, _pathwise_errors(by_steps), 0.25),
        Verdict.at_least(
            "T7", "the control lowers the exact expected loss by at least", exact[0] - exact[1], 0.05, losses
        ),
        Verdict.at_least(
            "T7", "the control lowers the sampled expected loss by at least", sgd - controlled, 0.04, losses
        ),
    )


def _largest_growth(seed: int, gamma: float, rate: float) -> float:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    second = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    x, inner_lr, steps = torch.zeros(1, dtype=torch.float64), 2e-3, 500
    chain = InnerChain(potential=F2, x=x, gamma=gamma, beta=1.0, inner_lr=inner_lr)
    distances = chain.coupled_distances(first, second, steps=steps, generator=generator)
    times = inner_lr * torch.arange(steps + 1, dtype=torch.float64)
    return float((distances / distances[0] * torch.exp(rate * times).unsqueeze(-1))[1:].max())


def forgetting(*, horizon: float, steps: int) -> Decay:
    """Return how the inner chain of T9 forgets its start: F2, x = .3, gamma = .1, beta = 1, from a hump at -1.2."""
    grid = Grid.covering(-3.5, 3.5, 0.02)
    equation = AuxiliaryFokkerPlanck(potential=F2, x=0.3, gamma=CONTRACTING_GAMMA, beta=1.0, grid=grid)
    start = torch.softmax(-10 * (grid.axis() + 1.2).square(), -1)
    return decay(equation, start, horizon=horizon, steps=steps)


def t9(seed: int) -> tuple[Verdict, ...]:
    """The inner chain forgets its start at rate lambda = 1/gamma - c on every path, in W2 and (2 lambda) in KL."""
    gamma = CONTRACTING_GAMMA
    rate = contraction_rate(F2, gamma)
    curve = forgetting(horizon=0.8, steps=80)
    wasserstein = float((curve.wasserstein / curve.wasserstein_bound)[1:].max())
    entropy = float((curve.entropy / curve.entropy_bound)[1:].max())
    fitted = -math.log(float(curve.wasserstein[-1] / curve.wasserstein[40])) / float(curve.times[-1] - curve.times[40])
    return (
        Verdict.at_most("T9", "lambda = 1/gamma - c of F2 at gamma = .1 is 6", abs(rate - 6), 1e-12),
        Verdict.at_most(
            "T9", "coupled chains: |y - y'| exp(lambda t) over its start", _largest_growth(seed, gamma, rate), 1.0
        ),
        Verdict.at_most("T9", "W2 exp(lambda t) over its start", wasserstein, 1.0, f"late rate {fitted:.2f}"),
        Verdict.at_most("T9", "KL exp(2 lambda t) over its start", entropy, 1.0),
        Verdict.at_least(
            "T9",
            "gamma = 1 (lambda < 0): some coupled chains part, growth at least",
            _largest_growth(seed, 1.0, 0.0),
            1.1,
        ),
    )
