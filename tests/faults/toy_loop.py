"""A replica's loop on a quadratic, for tests of what carries its messages; imported by Ray workers."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deeprelax.coupling.message import CenterStep, Kind, Message, Reply
from deeprelax.replica.replica import Steps
from deeprelax.testing.injection import injector_of

ENTRY = "tests.faults.toy_loop:quadratic"

Row = dict[str, object]


def job(
    *,
    exchanges: int = 20,
    size: int = 50,
    pause_s: float = 0.0,
    kind: Kind = "center",
    faults: str = "",
) -> dict[str, object]:
    """Return a job of :func:`quadratic`.

    Args:
        exchanges: of the run, each after a period of 5 steps.
        size: of each of its two vectors, one in float32 and one in float64.
        pause_s: seconds a step takes.
        kind: of its messages.
        faults: the text of a fault plan; a period has 5 steps.
    """
    return {
        "exchanges": exchanges,
        "size": size,
        "pause_s": pause_s,
        "kind": kind,
        "faults": faults,
        "checkpoints": "/nonexistent",
        "run": uuid.uuid4().hex,
        "threads": 1,
    }


def quadratic(
    job: Mapping[str, object],
    replica: int,
    device: str,  # noqa: ARG001 - part of an entry's signature
    emit: Callable[[Row], None],
    center_state: Callable[[], Mapping[str, Tensor]],  # noqa: ARG001 - likewise
) -> Steps[None]:
    """Descend to a minimum of the replica's own; the center is pulled to the mean of the minima."""
    faults = injector_of(str(job["faults"]), replica, str(job["run"]))
    loop = descend(job, replica, emit)
    return faults.around(loop) if faults.active else loop


def descend(job: Mapping[str, object], replica: int, emit: Callable[[Row], None]) -> Steps[None]:
    size, total = int(str(job["size"])), int(str(job["exchanges"]))
    generator = torch.Generator().manual_seed(replica)
    vectors = tuple(torch.randn(size, generator=generator, dtype=dtype) for dtype in (torch.float32, torch.float64))
    target = torch.randn(size, generator=generator, dtype=torch.float64)
    rule = (CenterStep(lr=0.7, momentum=0.9), CenterStep())
    reply = yield Message(kind="join", vectors=vectors, step=0, exchanges=0)
    take(vectors, reply)
    step, exchanges = reply.step, reply.exchanges
    while exchanges < total and not reply.stop:
        for _ in range(5):
            time.sleep(float(str(job["pause_s"])))
            for vector in vectors:
                vector.sub_(0.1 * (vector - target.to(vector.dtype)))
        kind: Kind = "mean" if job["kind"] == "mean" else "center"
        reply = yield Message(
            kind=kind, vectors=vectors, step=step + 5, exchanges=exchanges, center_steps=rule, scalars=(float(step),)
        )
        take(vectors, reply)
        step, exchanges = reply.step, reply.exchanges
        emit(
            {
                "event": "exchange",
                "replica": replica,
                "step": step,
                "exchanges": exchanges,
                "members": reply.members,
                "time": time.time(),
                "pid": os.getpid(),
            }
        )
        if reply.save:
            emit({"event": "saved", "replica": replica, "step": step, "exchanges": exchanges})
    emit({"event": "end", "replica": replica, "step": step, "sum": [float(vector.sum()) for vector in vectors]})


def take(vectors: tuple[Tensor, ...], reply: Reply) -> None:
    """Go on from what the reply says, in time or not."""
    for vector, center in zip(vectors, reply.vectors, strict=True):
        vector.copy_(center)
