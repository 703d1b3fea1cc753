"""T15: the counters behind the schedules, read off the steps that a coupling really makes, also after a resume."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from deeprelax.coupling import Coupling, EntropySgd, LocalSgd
from deeprelax.pde.checks import Verdict
from deeprelax.pde.potentials import Potential
from deeprelax.replica.replica import Replica
from deeprelax.verify.couplings.bed import Group, points_of

ROUNDING = 1e-12
STEPS, PERIOD, PASS = 24, 3, 6
SLOPE = Potential(name="slope", dimension=1, value=lambda x: x.sum(-1))
"""f(x) = x: the gradient is 1, so that a step of y is the learning rate itself."""

OfStep = Callable[[int], float]
RATES: dict[str, OfStep] = {
    "exp(0.1,0.01)": lambda k: 0.1 * 0.1 ** (k / STEPS),
    "lin(0.1,0,steps=12)": lambda k: 0.1 * max(0.0, 1 - k / 12),
    "cos(0.1,0.02,passes=4)": lambda k: 0.02 + 0.08 * (1 + math.cos(math.pi * k / (4 * PASS))) / 2,
    "lin(0.1,0.02,exchanges=8)": lambda k: 0.1 - 0.01 * (k // PERIOD),
    "piecewise(0:0.1,2:0.03,passes)": lambda k: 0.1 if k < 2 * PASS else 0.03,
}
"""Schedules of the learning rate, and their values at step k, written out."""


def _path(coupling: Coupling, *, resume_at: int | None = None) -> Tensor:
    """Return y before and after each step on the slope, shape (K + 1,); resumed once on the way if asked."""
    start = torch.zeros(1, 2, 1, dtype=torch.float64)
    seen = [0.0]

    def watch(replica: Replica) -> None:
        seen.append(float(points_of(replica)[0]))

    def group() -> Group:
        return Group(coupling, SLOPE, start, total_steps=STEPS, steps_per_pass=PASS)

    if resume_at is None:
        group().train(STEPS, watch=watch)
    else:
        first = group().train(resume_at, watch=watch)
        group().continue_from(first).train(STEPS - resume_at, watch=watch)
    return torch.tensor(seen, dtype=torch.float64)


def _rate_error(resume_at: int | None) -> float:
    worst = 0.0
    for text, rate in RATES.items():
        coupling = LocalSgd(replicas=1, lr=text, period=PERIOD, momentum=0.0)
        steps = -torch.diff(_path(coupling, resume_at=resume_at))
        exact = torch.tensor([rate(k) for k in range(STEPS)], dtype=torch.float64)
        worst = max(worst, float((steps - exact).abs().max()))
    return worst


def _scoping_error(resume_at: int | None) -> float:
    """Return the error of y against Entropy-SGD on the slope with a scoped inner spring, written out."""
    lr, outer_lr = 0.05, 0.5
    coupling = EntropySgd(
        lr=lr, gamma="exp(1,0.1)", outer_lr=outer_lr, period=PERIOD, momentum=0.0, averaging=0.0, beta=math.inf
    )
    x = y = 0.0
    exact = [0.0]
    for k in range(STEPS):
        y -= lr * (1 + (y - x) / 0.1 ** (k / STEPS))
        if (k + 1) % PERIOD == 0:
            x = y = x - outer_lr * (x - y)
        exact.append(y)
    return float((_path(coupling, resume_at=resume_at) - torch.tensor(exact, dtype=torch.float64)).abs().max())


def t15(seed: int) -> tuple[Verdict, ...]:
    """Schedules advance once a mini-batch step, in every unit, and go on where they were (deterministic: no seed)."""
    del seed
    verdicts = []
    for name, resume_at in (("", None), (", resumed on the way", STEPS // 2)):
        verdicts += [
            Verdict.at_most(
                "T15", f"five schedules of the rate{name}: step against closed form", _rate_error(resume_at), ROUNDING
            ),
            Verdict.at_most(
                "T15", f"scoping of gamma{name}: path against closed form", _scoping_error(resume_at), ROUNDING
            ),
        ]
    return tuple(verdicts)
