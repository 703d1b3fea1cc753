"""All replicas of a run in this process, taking turns."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from deeprelax.config import RunConfig
from deeprelax.exchange.center import Center
from deeprelax.exchange.inprocess import take_turns
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.entry import make_training
from deeprelax.replica.checkpoint import newest, read_tensors
from deeprelax.replica.loop import Emit, Event
from deeprelax.replica.task import Task


def run_locally(task: Task, config: RunConfig, checkpoints: Path, emit: Emit) -> bool:
    """Train all replicas in this process; return whether the run was stopped before its end.

    Ctrl-C lets the replicas reach their next exchange and save; a second one interrupts at once.

    Args:
        task: shared by the replicas, so its data is in memory once.
        config: resolved.
        checkpoints: folder of the run's checkpoints; training continues from the newest one.
        emit: takes events.
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
    meters = [Meter() for _ in range(config.make_coupling().replicas)]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loops = [
        make_training(task, config, index, device, _metered(emit, meter), lambda: _state(rounds), checkpoints).run()
        for index, meter in enumerate(meters)
    ]
    yield from take_turns(loops, rounds, meters)


def restored_rounds(checkpoints: Path) -> Rounds:
    """Return the rounds of a run as its newest checkpoint left them, or of a new run."""
    saved = newest(checkpoints)
    if saved is None:
        return Rounds()
    center = Center.restored(read_tensors(saved.path / "exchange.safetensors"))
    return Rounds(center, saved.step, saved.exchanges)


def _state(rounds: Rounds) -> Mapping[str, Tensor]:
    assert rounds.center is not None, "replicas join before they save"
    return rounds.center.state()


def _metered(emit: Emit, meter: Meter) -> Emit:
    def emit_with_meter(event: Event) -> None:
        emit(event | meter.row())

    return emit_with_meter


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
    """Turn the first Ctrl-C into a request to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(*_: object) -> None:
        if rounds.stop:
            raise KeyboardInterrupt
        rounds.stop = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
