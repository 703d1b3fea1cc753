"""Runs whose replicas are computed together: every step of all of them is one call."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import torch

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError
from deeprelax.execution.local_run import LocalRun
from deeprelax.replica.gradients import Ask
from deeprelax.replica.stackable import why_not
from deeprelax.replica.stacked import StackedGradients
from deeprelax.replica.start import initialized
from deeprelax.replica.task import Task

PAYS_FROM_REPLICAS = 8
PAYS_BELOW_PARAMETERS = 100_000
"""Where a call for all replicas was measured to be faster on a CPU; see benchmarks/README.md."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What one of several runs has done.

    Args:
        run: its place among them.
        ended: False after a round; True once it has ended, been stopped or failed.
        error: what it failed of, such as :class:`~deeprelax.errors.DivergedError`; the others go on.
    """

    run: int
    ended: bool = False
    error: Exception | None = None


def why_not_stacked(task: Task, configs: Sequence[RunConfig], device: torch.device) -> str | None:
    """Return why the replicas of runs cannot be computed together; None if they can.

    Args:
        task: that all runs train.
        configs: resolved.
        device: of the models.
    """
    for how in dict.fromkeys((config.batch_size, config.accumulate, config.precision) for config in configs):
        size, accumulate, precision = how
        assert size is not None, "resolve the config first"
        reason = why_not(task, device, batch_size=size, accumulate=accumulate, precision=precision)
        if reason is not None:
            return reason
    return None


def why_not_to_stack(task: Task, config: RunConfig, device: torch.device) -> str | None:
    """Return why a run that may be vectorized is not; None if it is.

    Args:
        task: of the run.
        config: resolved; where it says ``auto``, a model for which it does not pay is a reason too.
        device: of the models.
    """
    if config.make_coupling().replicas == 1:
        return "its one replica has no other to be computed with"
    replicas = config.make_coupling().replicas
    unpaid = why_it_does_not_pay(task, replicas, device) if config.vectorize == "auto" else None
    return unpaid or why_not_stacked(task, [config], device)


def why_it_does_not_pay(task: Task, replicas: int, device: torch.device) -> str | None:
    """Return why computing replicas together may take longer than one by one; None where it was measured not to.

    Args:
        task: that they train.
        replicas: how many there are, of all runs.
        device: of the models.
    """
    if device.type != "cpu":
        return f"whether it pays was not measured on {device.type}"
    if replicas < PAYS_FROM_REPLICAS:
        return f"it has {replicas} replicas, and below {PAYS_FROM_REPLICAS} it does not always pay"
    size = sum(parameter.numel() for parameter in initialized(task, seed=0, index=0).parameters())
    if size >= PAYS_BELOW_PARAMETERS:
        return f"its model has {size:,} parameters, and from {PAYS_BELOW_PARAMETERS:,} on it hardly pays"
    return None


def run_stacked(task: Task, runs: Sequence[LocalRun], device: torch.device | None = None) -> Iterator[Progress]:
    """Train several runs of one task at once: the gradients of all their replicas are one call a step.

    The runs may differ in all that is not the model or its data: coupling, its numbers, replicas, seed, steps. Each
    has its own center, events and checkpoints. The numbers are those of each run alone, up to rounding. Torch's threads
    are left to the caller.

    Args:
        task: that all runs train.
        runs: at least one.
        device: of the models; None: a GPU if there is one.

    Yields:
        Progress after every round of every run and at the end of each. To stop a run, set its ``rounds.stop``.

    Raises:
        ConfigError: the replicas cannot be computed together; says why.
    """
    device = device or here()
    reason = why_not_stacked(task, [run.config for run in runs], device)
    if reason is not None:
        raise ConfigError(f"These runs cannot be computed together: {reason}. Train them one after the other.")
    yield from stacked_rounds(task, runs, device)


def stacked_rounds(task: Task, runs: Sequence[LocalRun], device: torch.device) -> Iterator[Progress]:
    """Do what :func:`run_stacked` does, for runs of which it is known that they can be computed together."""
    stacked = StackedGradients(task, device, sum(run.replicas for run in runs))
    turns = {i: run.turns(task, device, stacked) for i, run in enumerate(runs)}
    while turns:
        asks: list[Ask] = []
        for i, turn in tuple(turns.items()):
            found = yield from _until_it_asks(i, turn)
            asks += found
            if not found:
                del turns[i]
        stacked.answer(asks)


def _until_it_asks(number: int, turn: Iterator[Sequence[Ask]]) -> Generator[Progress, None, Sequence[Ask]]:
    """Advance a run until it asks for gradients; return them, none at its end."""
    try:
        for asks in turn:
            if asks:
                return asks
            yield Progress(run=number)
    except Exception as error:  # noqa: BLE001 - whatever the trainable's code raises; the other runs go on
        yield Progress(run=number, ended=True, error=error)
    else:
        yield Progress(run=number, ended=True)
    return ()


def here() -> torch.device:
    """Return the device on which this process trains."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
