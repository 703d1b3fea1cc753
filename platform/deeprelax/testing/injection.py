"""Faults put into a replica's loop from outside: the loop is a generator, so whoever drives it sees every phase."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.replica.gradients import Ask
from deeprelax.replica.loop import AskingLoop, Emit, Event
from deeprelax.replica.replica import Steps
from deeprelax.testing.faults import Fault, FaultPlan, Phase, error_of

INSIDE_AFTER_S = 0.05
"""Seconds after a message is handed over at which a fault inside the exchange happens, if the answer is not there."""


class FaultInjector:
    """Lets the faults of one replica happen.

    ::

        injector = FaultInjector(FaultPlan.parse("1@40/inside_exchange=kill"), replica=1)
        drive(injector.around(loop), exchange)

    Args:
        plan: of the run.
        replica: index a.
    """

    def __init__(self, plan: FaultPlan, replica: int) -> None:
        self._plan = plan
        self._replica = replica
        self._waiting = list(plan.of(replica))
        self._step = 0

    @property
    def active(self) -> bool:
        """Whether anything is left to happen."""
        return bool(self._waiting)

    def around(self, loop: Steps[None] | AskingLoop) -> Steps[None]:
        """Return the loop with its faults; gradients that it asks for are computed on the way.

        Only a loop that asks for its gradients, as :meth:`deeprelax.replica.loop.Training.asking` does, shows ``step``.
        """
        reply: Reply | None = None
        while True:
            try:
                said = loop.send(reply)  # type: ignore[arg-type] # nothing is sent to a loop that begins or has asked
            except StopIteration:
                return
            if isinstance(said, Ask):
                self._happen("step", [w.fast for w in said.gradients.flat.weights])
                said.answer()
                self._step += 1
                reply = None
            elif said.kind == "join":
                reply = yield said
                self._begin(reply.step)
            else:
                reply = yield from self._exchange(said)

    def watching(self, emit: Emit) -> Emit:
        """Return what takes the loop's events, with the faults in ``save``."""
        if not any(fault.phase == "save" for fault in self._waiting):
            return emit

        def watched(event: Event) -> None:
            if event["event"] == "checkpoint":
                self._happen("save", ())
            emit(event)

        return watched

    def _begin(self, step: int) -> None:
        """Forget what lies behind a replica that joins: it has happened to an earlier process."""
        self._step = step
        self._waiting = [fault for fault in self._waiting if fault.step > step]

    def _exchange(self, message: Message) -> Steps[Reply]:
        self._step = message.step
        self._happen("before_exchange", message.vectors)
        inside = self._due("inside_exchange")
        answered = threading.Event()
        during = threading.Thread(target=_perform_unless, args=(inside, answered))
        if inside:
            during.start()
        try:
            reply = yield message
        finally:
            answered.set()
            if inside:
                during.join()
        # A reply's vectors are the center's own storage: what is poisoned is this replica's copy.
        if any(fault.phase == "after_exchange" for fault in self._waiting):
            reply = replace(reply, vectors=tuple(vector.clone() for vector in reply.vectors))
        self._happen("after_exchange", reply.vectors)
        self._step = reply.step
        return reply

    def _due(self, phase: Phase) -> list[Fault]:
        due = [fault for fault in self._waiting if fault.phase == phase and fault.step <= self._step]
        self._waiting = [fault for fault in self._waiting if fault not in due]
        return [fault for fault in due if self._plan.claim(fault, self._replica)]

    def _happen(self, phase: Phase, weights: Sequence[Tensor]) -> None:
        for fault in self._due(phase):
            _perform(fault, weights)


def _perform_unless(faults: Iterable[Fault], answered: threading.Event) -> None:
    """Let faults happen a moment after a message was handed over, or at its answer if that comes sooner."""
    for fault in faults:
        answered.wait(INSIDE_AFTER_S)
        _perform(fault, ())


def _perform(fault: Fault, weights: Iterable[Tensor]) -> None:
    if fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action == "stop":
        _stop(fault.seconds)
    elif fault.action == "delay":
        time.sleep(fault.seconds)
    elif fault.action == "raise":
        raise error_of(fault.error)
    else:
        _poison(weights, fault.value)


def _stop(seconds: float) -> None:
    # Somebody else must send SIGCONT; a session of its own keeps it alive whatever happens to this process group.
    pid = os.getpid()
    subprocess.Popen(["/bin/sh", "-c", f"sleep {seconds}; kill -CONT {pid}"], start_new_session=True)
    os.kill(pid, signal.SIGSTOP)


def _poison(weights: Iterable[Tensor], value: float) -> None:
    with torch.no_grad():
        for vector in weights:
            # All bits set is no number in any codec.
            vector.fill_(value if vector.is_floating_point() else 255)


@cache
def injector_of(faults: str, replica: int, run: str) -> FaultInjector:
    """Return this process's injector of one replica of one run.

    There is one, so that what has happened does not happen again to a replica that starts again in its process.

    Args:
        faults: text of the plan.
        replica: index a.
        run: unlike any other run's, such as the folder of its checkpoints.
    """
    assert run, "a process may run several runs, each with its own faults"
    return FaultInjector(FaultPlan.parse(faults), replica)
