"""The arithmetic of one local step on flat vectors, fused so that every vector passes through memory once.

Textbook lines of one step with spring stiffness k to an anchor x, weight decay w, momentum m (Nesterov, torch
convention), step η and averaging α:

    G = g + w y + k (y - x)
    v ← m v + G
    y ← y - η (G + m v)          (without Nesterov: y ← y - η v)
    z ← α z + (1 - α) y

They read y g v x z and write y v z: 8 passes over memory, against 5 of plain SGD with momentum. Long vectors go through
``torch.compile``, which makes one loop (CPU) or one kernel (GPU) of the lines. Short ones, where the cost is the number
of calls, and machines without a compiler use the same lines with (w + k) y and k x added apart, in cache-sized blocks:

    g + w y + k (y - x) = g + (w + k) y - k x
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)

COMPILE_FROM_ELEMENTS = 1_000_000
_BLOCK_ELEMENTS = 1 << 19  # six blocks of float32 fit the last-level cache of a server core


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Numbers of one local SGD step.

    Args:
        lr: η.
        momentum: m in [0, 1); 0 needs no velocity.
        nesterov: whether the step is taken along G + m v instead of v.
        weight_decay: w >= 0.
        stiffness: k >= 0, the spring to the anchor.
        averaging: α, weight of the old average.
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = True
    weight_decay: float = 0.0
    stiffness: float = 0.0
    averaging: float = 0.0


def sgd_step_(y: Tensor, g: Tensor, sgd: Sgd, *, v: Tensor | None, x: Tensor | None, z: Tensor | None) -> None:
    """Make one step in place; ``g`` is left unchanged.

    Args:
        y: weights, shape (P,).
        g: gradient, shape (P,).
        sgd: the numbers.
        v: velocity; None for momentum 0.
        x: anchor of the spring; None for no spring.
        z: running average; None for no average.
    """
    if y.numel() >= COMPILE_FROM_ELEMENTS and _compiles(y.device.type):
        dtype = y.dtype if y.dtype in (torch.float32, torch.float64) else torch.float32
        numbers = (sgd.lr, sgd.momentum, sgd.weight_decay, sgd.stiffness, sgd.averaging)
        _compiled()(y, g, v, x, z, *(torch.tensor(number, dtype=dtype) for number in numbers), sgd.nesterov)
        return
    for begin in range(0, y.numel(), _BLOCK_ELEMENTS):
        block = slice(begin, begin + _BLOCK_ELEMENTS)
        _blocked_step(y[block], g[block], sgd, *(None if t is None else t[block] for t in (v, x, z)))


def _blocked_step(y: Tensor, g: Tensor, sgd: Sgd, v: Tensor | None, x: Tensor | None, z: Tensor | None) -> None:
    pull = sgd.weight_decay + (sgd.stiffness if x is not None else 0.0)
    force = torch.add(g, y, alpha=pull) if pull else g
    if x is not None and sgd.stiffness:
        force = force.sub_(x, alpha=sgd.stiffness)
    if v is not None:
        v.mul_(sgd.momentum).add_(force)
        force = torch.add(force, v, alpha=sgd.momentum) if sgd.nesterov else v
    y.sub_(force, alpha=sgd.lr)
    if z is not None:
        z.lerp_(y, 1.0 - sgd.averaging)


def textbook_step_(
    y: Tensor,
    g: Tensor,
    v: Tensor | None,
    x: Tensor | None,
    z: Tensor | None,
    lr: Tensor,
    momentum: Tensor,
    weight_decay: Tensor,
    stiffness: Tensor,
    averaging: Tensor,
    nesterov: bool,
) -> None:
    """The lines of the module's docstring, literally; what ``torch.compile`` fuses and what the tests compare with."""
    force = g + weight_decay * y
    if x is not None:
        force = force + stiffness * (y - x)
    direction = force
    if v is not None:
        v.copy_(momentum * v + force)
        direction = force + momentum * v if nesterov else v
    y.copy_(y - lr * direction)
    if z is not None:
        z.copy_(averaging * z + (1 - averaging) * y)


def nesterov_(x: Tensor, force: Tensor, velocity: Tensor | None, lr: float, momentum: float) -> None:
    """Take one outer step: v ← m v + G; x ← x - η (G + m v). ``force`` is G and is used up.

    Args:
        x: slow weights, shape (P,).
        force: shape (P,).
        velocity: shape (P,); None for momentum 0.
        lr: η.
        momentum: m.
    """
    if velocity is not None:
        velocity.mul_(momentum).add_(force)
        force.add_(velocity, alpha=momentum)
    x.sub_(force, alpha=lr)


@functools.cache
def _compiled() -> Callable[..., None]:
    # One compilation serves all lengths: torch gives up on a function after 8, and with fullgraph=True raises then.
    return torch.compile(textbook_step_, dynamic=True)


@functools.cache
def _compiles(device_type: str) -> bool:
    """Return whether this machine can compile for the device, trying it once on a few elements."""
    tiny = torch.zeros(16, device=device_type)
    try:
        torch.compile(torch.neg, fullgraph=True)(tiny)
    except Exception as error:  # noqa: BLE001  (the compiler's errors have no common root; every one means "no compiler")
        log.warning(
            "torch.compile does not work here (%s); the local step of a large model takes about twice as long.",
            type(error).__name__,
        )
        return False
    return True
