"""All replicas of a run in this process, taking turns or computed together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError
from deeprelax.exchange.center import Center
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.local_run import LocalRun
from deeprelax.execution.stacked import here, stacked_rounds, why_not_to_stack
from deeprelax.replica.checkpoint import newest, read_tensors
from deeprelax.replica.loop import Emit
from deeprelax.replica.task import Task


def run_locally(task: Task, config: RunConfig, checkpoints: Path, emit: Emit) -> bool:
    """Train all replicas in this process; return whether the run was stopped before its end.

    Ctrl-C and SIGTERM let the replicas reach their next exchange and save; a second Ctrl-C interrupts at once.

    Args:
        task: shared by the replicas, so its data is in memory once.
        config: resolved.
        checkpoints: folder of the run's checkpoints; training continues from the newest one.
        emit: takes events.

    Raises:
        ConfigError: ``vectorize="always"``, and the replicas cannot be computed together.
    """
    rounds = restored_rounds(checkpoints)
    with _threads(config.threads), _stopping(rounds):
        for _ in local_rounds(task, config, checkpoints, emit, rounds):
            pass
    return rounds.stop and rounds.step < (config.steps or 0)


def local_rounds(task: Task, config: RunConfig, checkpoints: Path, emit: Emit, rounds: Rounds) -> Iterator[None]:
    """Train all replicas in this process, a round a step of the iterator; who iterates may stop at any of them.

    Args:
        task: as in :func:`run_locally`, like ``config``, ``checkpoints`` and ``emit``.
        config: torch's threads are left to the caller.
        checkpoints: continued from.
        emit: takes events.
        rounds: what :func:`restored_rounds` returned for ``checkpoints``.
    """
    run = LocalRun(config=config, checkpoints=checkpoints, emit=emit, rounds=rounds)
    if not _vectorizes(task, run):
        for _ in run.turns(task, here()):
            yield
        return
    for progress in stacked_rounds(task, [run], here()):
        if progress.error is not None:
            raise progress.error
        if not progress.ended:
            yield


def _vectorizes(task: Task, run: LocalRun) -> bool:
    """Decide whether the replicas are computed together, and write down why not."""
    if run.config.vectorize == "never":
        return False
    reason = why_not_to_stack(task, run.config, here())
    if reason is not None and run.config.vectorize == "always":
        raise ConfigError(f"Invalid vectorize='always': {reason}. Use 'auto' or 'never'.")
    run.emit({"event": "vectorize", "step": run.rounds.step, "vectorized": reason is None, "reason": reason})
    return reason is None


def restored_rounds(checkpoints: Path) -> Rounds:
    """Return the rounds of a run as its newest checkpoint left them, or of a new run."""
    saved = newest(checkpoints)
    if saved is None:
        return Rounds()
    center = Center.restored(read_tensors(saved.path / "exchange.safetensors"))
    return Rounds(center, saved.exchange_step, saved.exchanges)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _stopping(rounds: Rounds) -> Iterator[None]:
    """Turn the first Ctrl-C, and SIGTERM, into a request to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _: object) -> None:
        if rounds.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        rounds.stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
