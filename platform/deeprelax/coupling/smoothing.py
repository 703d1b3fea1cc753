"""Outer steps along a direction collected during a period, shared by the methods that smooth the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deeprelax.coupling.base import Knobs
from deeprelax.coupling.inner import Force, Inner
from deeprelax.coupling.weights import Weights


def move_anchor(weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
    """Move the slow weights ``anchor`` by one step of the optimizer, with the vector ``direction`` as the gradient."""
    for w in weights:
        w.fast.copy_(w["anchor"])
        w.grad.copy_(w["direction"])
    inner.step(weights, Force(), knobs["lr"], generator)
    for w in weights:
        w["anchor"].copy_(w.fast)
