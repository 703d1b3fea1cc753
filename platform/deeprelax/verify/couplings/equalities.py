"""T14: what the couplings are equal to, each other and torch's SGD, on a noisy quadratic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from deeprelax.coupling import (
    Coupling,
    Diloco,
    Eamsgd,
    Easgd,
    ElasticSgd,
    EntropySgd,
    Hj,
    LocalSgd,
    Lookahead,
    Parle,
    Sgd,
)
from deeprelax.pde.checks import Verdict
from deeprelax.pde.potentials import quadratic
from deeprelax.replica.replica import Replica
from deeprelax.verify.couplings.bed import Group, points_of

ROUNDING = 1e-12
REPLICAS, PATHS, PERIOD, STEPS = 3, 4, 4, 24
SHARED: dict[str, Any] = {"period": PERIOD, "lr": 0.05, "momentum": 0.9}
RELAXED: dict[str, Any] = SHARED | {"gamma": 0.5, "outer_lr": 0.6, "momentum_policy": "keep"}
BOWL = quadratic(torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64))


class _Bed:
    """Starts and gradient noise that all runs of one comparison share."""

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.starts = torch.randn(REPLICAS, PATHS, 2, generator=generator, dtype=torch.float64)
        self.noise = 0.3 * torch.randn(REPLICAS, STEPS, PATHS, 2, generator=generator, dtype=torch.float64)

    def path(self, coupling: Coupling) -> Tensor:
        """Return the weights of the replicas after every step, shape (R, K, P, 2)."""
        seen: list[list[Tensor]] = [[] for _ in range(coupling.replicas)]

        def watch(replica: Replica) -> None:
            seen[replica.index].append(points_of(replica))

        group = Group(coupling, BOWL, self.starts[: coupling.replicas], total_steps=STEPS)
        group.train(STEPS, noise=lambda replica, step: self.noise[replica, step], watch=watch)
        return torch.stack([torch.stack(points) for points in seen])

    def apart(self, one: Coupling, other: Coupling) -> float:
        """Return the largest difference of two couplings' paths."""
        return float((self.path(one) - self.path(other)).abs().max())

    def torch_path(self) -> Tensor:
        """Return the path of replica 0 under ``torch.optim.SGD``, shape (K, P, 2)."""
        point = torch.nn.Parameter(self.starts[0].clone())
        optimizer = torch.optim.SGD([point], lr=SHARED["lr"], momentum=SHARED["momentum"], nesterov=True)
        seen = []
        for noise in self.noise[0]:
            optimizer.zero_grad()
            (BOWL(point).sum() + (noise * point).sum()).backward()
            optimizer.step()
            seen.append(point.detach().clone())
        return torch.stack(seen)


def _means_apart(bed: _Bed) -> float:
    shared = SHARED | {"replicas": REPLICAS, "gamma": 0.5, "outer_lr": 0.4}
    tight, free = (bed.path(Parle(rho=rho, **shared))[:, PERIOD - 1 :: PERIOD] for rho in (1.0, math.inf))
    return float((tight.mean(0) - free.mean(0)).abs().max())


def _diloco_step_apart(bed: _Bed) -> float:
    shared = SHARED | {"replicas": REPLICAS, "outer_lr": 0.7}
    parle = bed.path(Parle(gamma=math.inf, averaging=0.0, rho=2.0, **shared))[:, PERIOD - 1].mean(0)
    return float((parle - bed.path(Diloco(outer_momentum=0.0, **shared))[:, PERIOD - 1]).abs().max())


def _spread_of_equals(bed: _Bed) -> float:
    bed.starts, bed.noise = bed.starts[:1].expand_as(bed.starts), bed.noise[:1].expand_as(bed.noise)
    path = bed.path(Parle(replicas=REPLICAS, gamma=0.5, **SHARED))
    return float((path - path[:1]).abs().max())


def t14(seed: int) -> tuple[Verdict, ...]:
    """The couplings are equal to each other, and to torch's SGD, where their definitions say so."""
    bed, many = _Bed(seed), SHARED | {"replicas": REPLICAS}
    free = {"gamma": math.inf, "beta": math.inf, "averaging": 0.0}
    plain = SHARED | {"momentum": 0.0, "replicas": REPLICAS}
    found = {
        "Parle of one replica without rho is Entropy-SGD without noise": bed.apart(
            Parle(replicas=1, rho=math.inf, **RELAXED), EntropySgd(beta=math.inf, **RELAXED)
        ),
        "HJ by descent is Entropy-SGD without noise": bed.apart(
            Hj(averaging=0.75, **RELAXED), EntropySgd(beta=math.inf, averaging=0.75, **RELAXED)
        ),
        "Entropy-SGD without spring, noise and average is Lookahead": bed.apart(
            EntropySgd(**(RELAXED | free)), Lookahead(slow_lr=0.6, **SHARED)
        ),
        "Parle's mean does not depend on rho": _means_apart(bed),
        "Parle's first step without spring and average is DiLoCo's": _diloco_step_apart(bed),
        "DiLoCo with outer step 1 is local SGD": bed.apart(
            Diloco(outer_lr=1.0, outer_momentum=0.0, **many), LocalSgd(**many)
        ),
        "EAMSGD without momentum is EASGD": bed.apart(Eamsgd(**plain), Easgd(**plain)),
        "Elastic-SGD without spring is Parle without springs and average": bed.apart(
            ElasticSgd(rho=math.inf, **many), Parle(gamma=math.inf, rho=math.inf, averaging=0.0, **many)
        ),
        "one worker of data-parallel SGD is torch.optim.SGD": float(
            (bed.path(Sgd(lr=0.05, momentum=0.9))[0] - bed.torch_path()).abs().max()
        ),
        "replicas with one start and one data order stay identical": _spread_of_equals(bed),
    }
    return tuple(Verdict.at_most("T14", f"{claim}: difference", gap, ROUNDING) for claim, gap in found.items())
