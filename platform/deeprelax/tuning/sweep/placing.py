"""Where a trial's replicas are trained: taking turns in one process, or on a worker each.

Both give the same numbers, so every driver of a sweep decides for itself, and no study knows of it. The rule of
``auto`` is :func:`sooner`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from deeprelax.config import Placement
from deeprelax.errors import ConfigError, nearest

Wish = Literal["auto", "local", "ray"]
"""What a user can ask for."""

WISHES: tuple[Wish, ...] = ("auto", "local", "ray")

START_S = 15.0
"""Seconds until workers make their first step, measured 11 to 20; a trial in a warm process begins at once."""

CORE_FLOPS = 3e10
"""Floating point operations a core makes in a second, about; only to tell seconds from hours before one is measured."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known when a trial is placed.

    Args:
        workers: replicas of all its seeds, of the largest trial.
        gpus_per_replica: asked for by the user.
        bound: something binds a trial's replicas to one process, such as ``vectorize``.
        seconds: a trial's computing, if its replicas take turns: measured, or else estimated.
        left: trials that have not ended.
        slots_local: trials that run at once if each takes one process.
        slots_ray: likewise if each takes its workers.
    """

    workers: int
    gpus_per_replica: float = 0.0
    bound: bool = False
    seconds: float
    left: int
    slots_local: int
    slots_ray: int


def sooner(known: Known) -> Placement:
    """Return where trials are placed by ``auto``.

    On workers, if the user asked for GPUs per replica: only there a replica has its own. Else where the trials that are
    left end sooner, counted in full rounds: taking turns, trials last as long as their replicas together, but more of
    them run at once; workers compute at the same time, after :data:`START_S`. So workers pay for trials that are long
    and few for the cluster. Replicas that are computed together are not torn apart: their roundings would differ.
    """
    if known.gpus_per_replica:
        return "ray"
    if known.bound or known.workers == 1 or not known.slots_ray:
        return "local"
    turns = _rounds(known.left, known.slots_local) * known.seconds
    apart = _rounds(known.left, known.slots_ray) * (START_S + known.seconds / known.workers)
    return "ray" if apart < turns else "local"


def least_seconds(parameters: int, samples: float) -> float:
    """Return the seconds of one core under which a run cannot stay, by the size of its model.

    Args:
        parameters: of the model; each takes part in at least 6 operations a sample, forward and backward.
        samples: gradients of all its replicas times the batch size.
    """
    return 6.0 * parameters * samples / CORE_FLOPS


def known_wish(wish: str) -> Wish:
    """Return ``wish``.

    Raises:
        ConfigError: it is none.
    """
    for known in WISHES:
        if wish == known:
            return known
    raise ConfigError(f"Invalid placement={wish!r}. Must be one of {', '.join(WISHES)}.{nearest(wish, WISHES)}")


def _rounds(left: int, slots: int) -> float:
    return math.ceil(left / slots) if slots else math.inf
