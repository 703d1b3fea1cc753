"""The driver of a run on Ray: passes on what the replicas report, answers Ctrl-C, puts errors into our words."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import ray
from ray.exceptions import RayError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from deeprelax import errors
from deeprelax.errors import AdmissionError, DeepRelaxError
from deeprelax.exchange.server.actor import Controller, Failure
from deeprelax.exchange.server.coordinator import Row
from deeprelax.exchange.server.servers import CenterServers
from deeprelax.execution.fit import Fit
from deeprelax.execution.growth import Growth

DRAIN_S = 0.2
"""Seconds between two looks at what the replicas report."""

ABORT_TIMEOUT_S = 10.0
"""Seconds the workers have to end when a run is aborted."""


class _CtrlC:
    """Remembers the first SIGINT or SIGTERM and raises KeyboardInterrupt at a later SIGINT.

    Ray's processes block SIGINT, so a Ctrl-C on the terminal, which goes to all processes in the foreground, reaches
    only the driver.
    """

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def _ctrl_c() -> Iterator[_CtrlC]:
    handler = _CtrlC()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handler
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def watch(
    fit: Fit,
    growth: Growth,
    servers: CenterServers,
    take: Callable[[Row], None],
    max_failures: int,
    cut: threading.Event,
) -> bool:
    """Start the workers and pass on what happens until all have ended; return whether they were asked to end.

    Once ``cut`` is set, they are ended.

    Raises:
        AdmissionError: the workers could not be started.
        DeepRelaxError: what a replica's loop raised, or that too many workers were lost.
        ExchangeError: the center server is gone.
        KeyboardInterrupt: Ctrl-C was pressed twice.
    """
    controller: Controller | None = None
    asked = False
    fit.start()
    try:
        with _ctrl_c() as ctrl_c:
            running = True
            while running:
                if fit.is_alive():
                    fit.join(DRAIN_S)
                else:
                    time.sleep(DRAIN_S)
                running = fit.is_alive()
                if cut.is_set():
                    _abort(fit, controller)
                    return True
                if ctrl_c.pressed:
                    servers.request_stop()  # again and again: a restarted server does not remember it
                    asked = True
                news = servers.drain()
                running = running or news.away
                controller = news.controller or controller
                for row in news.rows:
                    growth.hear(row)
                    take(row)
                growth.look()
                running = running or (growth.busy and fit.error is None)
                if news.failure is not None:
                    raise revived(news.failure)
    except BaseException:
        _abort(fit, controller)
        raise
    finally:
        growth.close()
    if fit.error is not None:
        raise _explained(fit.error, max_failures) from None
    return asked


def _abort(fit: Fit, controller: Controller | None) -> None:
    if not fit.kill():
        if controller is None:
            return
        with suppress(RayError):
            ray.get(controller.abort.remote(), timeout=ABORT_TIMEOUT_S)
    fit.join(ABORT_TIMEOUT_S)


def revived(failure: Failure) -> DeepRelaxError:
    """Return the error that a replica's loop raised: our own as it was, any other by its words."""
    kind = getattr(errors, failure.kind, None)
    if isinstance(kind, type) and issubclass(kind, DeepRelaxError):
        return kind(failure.message)
    error = DeepRelaxError(f"Replica {failure.replica} failed: {failure.kind}: {failure.message}")
    error.add_note(f"On its worker:\n{failure.traceback}")
    return error


def _explained(error: Exception, max_failures: int) -> DeepRelaxError:
    """Return Ray Train's error in our words."""
    if isinstance(error, WorkerGroupError):
        ranks = ", ".join(str(rank) for rank in sorted(error.worker_failures))
        cause = str(next(iter(error.worker_failures.values()), error)).strip().partition("\n")[0]
        return DeepRelaxError(
            f"Replica {ranks} was lost after max_failures={max_failures} had been replaced: {cause} "
            "Resume the run from its newest checkpoint, or give a larger max_failures."
        )
    if isinstance(error, ControllerError):
        return AdmissionError(f"The workers could not be started: {error.controller_failure}")
    return DeepRelaxError(f"Ray Train has ended: {error}")
