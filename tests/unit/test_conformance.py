"""Every method passes the suite that third parties run on theirs, and the suite catches what it claims to catch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from pydantic import field_validator
from torch import Tensor

from deeprelax.coupling import METHODS, Coupling, EntropySgd, Hj, LocalSgd, Parle
from deeprelax.coupling.base import Knobs
from deeprelax.coupling.inner import Inner
from deeprelax.coupling.weights import Weights
from deeprelax.testing import COUPLING_CHECKS, CouplingCheck, check_coupling
from deeprelax.testing import coupling as suite

COUPLINGS: list[Coupling] = [
    *(method(lr=0.05, period=1 if name == "sgd" else 4) for name, method in METHODS.items()),
    Parle(lr=0.05, period=4, outer_lr=0.3, outer_momentum=0.9, consensus="averaged"),
    Parle(lr=0.05, period=4, optimizer="adamw"),
    Parle(lr=0.05, period=4, averaging=0, rho="auto(100)", spring="decoupled"),
    EntropySgd(lr=0.05, period=4, beta=1e6),
    Hj(lr=0.05, period=4, variant="fixed_point", gamma="exp(0.5,0.01)"),
    LocalSgd(lr=0.1, period=4, optimizer="nadam", momentum_policy="reset"),
]


@pytest.mark.parametrize("check", COUPLING_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("coupling", COUPLINGS, ids=lambda coupling: coupling.method())
def test_method_keeps_the_promises_of_a_coupling(coupling: Coupling, check: CouplingCheck) -> None:
    check(coupling)


# Methods that break one promise each.


# The rules below ignore most of what they are given.
# ruff: noqa: ARG002


class Hidden(LocalSgd):
    """Keeps state outside the named vectors."""

    secret: ClassVar[dict[int, Tensor]] = {}

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        old = self.secret.get(id(w), torch.zeros_like(center))
        self.secret[id(w)] = center + 0.5 * old
        w.fast.copy_(center + 0.01 * old)


class Undeclared(LocalSgd):
    """Keeps a vector that it does not list."""

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.keep("more").copy_(center)
        w.fast.copy_(center)


class Restless(LocalSgd):
    """Draws from torch's global generator."""

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.fast.copy_(center + 1e-3 * torch.randn_like(center))


class Dirty(LocalSgd):
    """Draws noise without sparing the padding."""

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.fast.copy_(center + 1e-3 * torch.randn(center.shape, generator=generator, dtype=center.dtype))


class Copying(LocalSgd):
    """Sends a copy."""

    def message(self, w: Weights) -> Tensor:
        return w.fast.clone()


class Apart(LocalSgd):
    """Takes its own weights for the center."""

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        w.fast.lerp_(center, 0.5)


class Uphill(LocalSgd):
    """Moves the wrong way, and has no equations."""

    def local_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        for w in weights:
            w.grad.neg_()
        super().local_step(weights, knobs, inner, generator)


class Changing(LocalSgd):
    """Reads another value than it writes."""

    extra: int = 0

    @field_validator("extra")
    @classmethod
    def _one_more(cls, extra: int) -> int:
        return extra + 1


@pytest.mark.parametrize(
    ("method", "check"),
    [
        (Changing, suite.check_config_round_trips),
        (Hidden, suite.check_resumes),
        (Undeclared, suite.check_memory),
        (Restless, suite.check_deterministic),
        (Dirty, suite.check_padding_stays_zero),
        (Copying, suite.check_sends_what_it_holds),
        (Apart, suite.check_center),
        (Uphill, suite.check_learns),
        (Uphill, suite.check_docstring),
    ],
)
def test_suite_catches_a_method_that_breaks_a_promise(method: type[Coupling], check: CouplingCheck) -> None:
    with pytest.raises(AssertionError):
        check(method(lr=0.05, period=4))


def test_check_coupling_runs_the_whole_suite() -> None:
    check_coupling(Parle(lr=0.05, period=4))
    with pytest.raises(AssertionError, match="the generator it is given"):
        check_coupling(Restless(lr=0.05, period=4))
