"""The local step of Parle (spring, Nesterov, average) against torch's fused SGD on the same parameters.

The parameters are a wide residual network's, scaled. The library keeps them as views of one flat vector, so all
contenders work on the same memory. Limits count passes over memory: fused SGD reads y g v and writes y v (5), Parle
reads y g v x z and writes y v z (8), a copy takes 2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from benchmarks.measure import Call, Contenders, How, Row, compare
from torch import Tensor, nn
from torch.optim import SGD

from deeprelax.coupling import METHODS, Coupling, Parle
from deeprelax.coupling.kernels import textbook_step_
from deeprelax.replica.replica import Replica
from deeprelax_trainables.convnets import WideResNet

SIZES = (100_000, 1_000_000, 10_000_000, 60_000_000)
BAR_SIZE, BAR = 10_000_000, 1.75
FUSED = "SGD fused, one tensor"
LIMITS = {FUSED: 1, "SGD fused": 1, "SGD foreach": 1, "Parle": 8 / 5, "Parle, textbook": 8 / 5, "copy": 2 / 5}
_NEVER = 10**9
_SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "nesterov": True}


def parle_rows(size: int, how: How) -> list[Row]:
    """Return Parle, torch's SGD in three forms, the unfused textbook lines and the plain copy."""
    bars = {"Parle": BAR} if size == BAR_SIZE else {}
    group = f"local step, {size / 1e6:g}M parameters, {how.device}"
    return compare(group, lambda: _parle(size, how.device), FUSED, how, limits=LIMITS, bars=bars)


def coupling_rows(size: int, how: How) -> list[Row]:
    """Return the local step of every coupling, and what an exchange adds: outer step and taking the center in."""
    group = f"all couplings, {size / 1e6:g}M parameters, {how.device}"
    return [
        row for name in METHODS for row in compare(group, partial(_coupling, name, size, how.device), FUSED, how)[1:]
    ]


def _parle(size: int, device: str) -> Contenders:
    coupling = Parle(lr=0.05, period=_NEVER)
    replica = _replica(coupling, size, device)
    (w,) = replica.weights
    knobs = dict(coupling.knobs(replica.position))
    noise = torch.Generator(device)
    parameters = list(replica.flat.model.parameters())
    lr, momentum, decay, stiffness, averaging = (torch.tensor(number) for number in (0.05, 0.9, 0.0, 0.01, 0.75))
    y, g, v, x, z = w.fast, w.grad, w.keep("velocity"), w["anchor"], w["average"]
    spare = torch.empty_like(w.fast)
    return {
        FUSED: _fused(replica),
        "SGD fused": SGD(parameters, fused=True, **_SGD).step,
        "SGD foreach": SGD(parameters, foreach=True, **_SGD).step,
        "Parle": lambda: coupling.local_step([w], knobs, replica.inner, noise),
        "Parle, whole Replica.step": lambda: list(replica.step()),
        "Parle, textbook": lambda: textbook_step_(y, g, v, x, z, lr, momentum, decay, stiffness, averaging, True),
        "copy": lambda: spare.copy_(w.grad),
    }


def _coupling(name: str, size: int, device: str) -> Contenders:
    """Return a local step and the replica's part of an exchange, each on a replica of its own."""
    coupling = METHODS[name](lr=0.05)
    first, second = (_replica(coupling, size, device) for _ in range(2))
    (near,), (far,) = first.weights, second.weights
    knobs = dict(coupling.knobs(first.position)) | {"elapsed": 1.0}
    noise = torch.Generator(device)
    center = _random(far.fast)

    def exchange() -> None:
        coupling.outer_step([far], knobs, second.inner, noise)
        coupling.receive(far, center, knobs, noise)

    return {
        FUSED: _fused(first),
        f"{name}, local": lambda: coupling.local_step([near], knobs, first.inner, noise),
        f"{name}, exchange": exchange,
    }


def _fused(replica: Replica) -> Call:
    (w,) = replica.weights
    flat = nn.Parameter(torch.empty(0, device=w.fast.device))
    flat.data, flat.grad = w.fast, w.grad
    optimizer = SGD([flat], fused=True, **_SGD)
    return optimizer.step


def _replica(coupling: Coupling, size: int, device: str) -> Replica:
    """Return a replica of about ``size`` parameters, in as many tensors as a residual network's."""
    with torch.device("meta"):
        sizes = [p.numel() for p in WideResNet(channels=3, classes=10, depth=28, width=10).parameters()]
    scale = size / sum(sizes)
    tensors = [torch.randn(max(1, round(scale * n)), device=device) for n in sizes]
    replica = Replica(nn.ParameterList(tensors), coupling, steps_per_pass=400, total_steps=_NEVER)
    (w,) = replica.weights
    w.grad.copy_(_random(w.grad))
    coupling.begin(w, w.fast, coupling.knobs(replica.position), torch.Generator(device))
    return replica


def _random(like: Tensor) -> Tensor:
    return torch.randn_like(like).mul_(0.01)
