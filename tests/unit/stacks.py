"""Replicas of one task trained together and one by one, and how far the results are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeprelax.coupling import Coupling
from deeprelax.exchange.inprocess import take_turns
from deeprelax.exchange.rounds import Rounds
from deeprelax.registry import find
from deeprelax.replica.loop import Event, Plan, Training
from deeprelax.replica.stacked import StackedGradients
from deeprelax.replica.task import Data, Task

CPU = torch.device("cpu")


def digits(**config: Any) -> Task:
    chosen = find("digits")
    return chosen.build(chosen.configure(config))


def in_float64(task: Task) -> Task:
    def whole(data: Data) -> tuple[Tensor, Tensor]:
        inputs, targets = data.batch(torch.arange(len(data)))
        return inputs.double(), targets

    return replace(task, model=lambda: task.model().double(), train=whole(task.train_data), test=whole(task.test_data))


def trained(
    task: Task, coupling: Coupling, *, together: bool, steps: int = 20, **plan: Any
) -> tuple[list[Training], list[Event]]:
    """Return the replicas at their end and what they emitted."""
    stacked = StackedGradients(task, CPU, coupling.replicas)
    rounds, events = Rounds(), list[Event]()
    replicas = [
        Training(
            task,
            coupling,
            Plan(**({"total_steps": steps, "batch_size": 8, "seed": 3} | plan)),
            index=a,
            emit=events.append,
            checkpoints=Path("never written"),
            center_state=dict,
            company=stacked if together else None,
        )
        for a in range(coupling.replicas)
    ]
    for one in replicas:
        one._save = lambda: None  # type: ignore[method-assign]  # nothing here is about files
    for asks in take_turns([one.asking() if together else one.run() for one in replicas], rounds):
        stacked.answer(asks)
    return replicas, events


def relative_distance(left: Sequence[Training], right: Sequence[Training]) -> float:
    """Return the largest distance of any vector of any replica, relative to its norm."""
    pairs = [
        (one.replica.state()[name].double(), other.replica.state()[name].double())
        for one, other in zip(left, right, strict=True)
        for name in one.replica.state()
        if name != "noise"
    ]
    return max(float(torch.dist(a, b) / torch.linalg.vector_norm(a).clamp(min=1e-30)) for a, b in pairs)
