"""One run whose replicas are all in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deeprelax.config import RunConfig
from deeprelax.exchange.inprocess import take_turns
from deeprelax.exchange.meter import Meter
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.entry import make_training
from deeprelax.replica.gradients import Ask
from deeprelax.replica.local_step import Company
from deeprelax.replica.loop import Emit, Event
from deeprelax.replica.task import Task


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A run and what it needs of this process.

    Args:
        config: resolved.
        checkpoints: folder of the run's checkpoints; training continues from the newest one.
        emit: takes events.
        rounds: what :func:`~deeprelax.execution.local.restored_rounds` returned for ``checkpoints``; set its ``stop``
            to have the run save at its next exchange and end.
    """

    config: RunConfig
    checkpoints: Path
    emit: Emit
    rounds: Rounds

    @property
    def replicas(self) -> int:
        """Return n."""
        return self.config.make_coupling().replicas

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop before its end."""
        return self.rounds.stop and self.rounds.step < (self.config.steps or 0)

    def turns(self, task: Task, device: torch.device, company: Company | None = None) -> Iterator[Sequence[Ask]]:
        """Train the replicas in lockstep; see :func:`~deeprelax.exchange.inprocess.take_turns`.

        Args:
            task: shared by the replicas, so its data is in memory once.
            device: of the models.
            company: that the replicas belong to; then the iterator asks for gradients. None: each computes its own.
        """
        meters = [Meter() for _ in range(self.replicas)]
        trainings = [
            make_training(
                task, self.config, index, device, _metered(self.emit, meter), self._state, self.checkpoints, company
            )
            for index, meter in enumerate(meters)
        ]
        self.rounds.seed = self.config.seed
        loops = [training.asking() if company else training.run() for training in trainings]
        return take_turns(loops, self.rounds, meters)

    def _state(self) -> Mapping[str, Tensor]:
        assert self.rounds.center is not None, "replicas join before they save"
        return self.rounds.center.state()


def _metered(emit: Emit, meter: Meter) -> Emit:
    def emit_with_meter(event: Event) -> None:
        emit(event | meter.row())

    return emit_with_meter
