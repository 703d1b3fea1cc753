"""All replicas in one call against the same replicas one by one, in one process: Parle on the networks of digits.

Each time is of ``STEPS`` mini-batch steps of every replica and an exchange. The other way to gain is a process for
each replica: on c free cores that takes at least 1 / min(n, c) of the time of one by one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.measure import Call, Contenders, How, Row, compare

from deeprelax.coupling import Parle
from deeprelax.exchange.inprocess import take_turns
from deeprelax.exchange.rounds import Rounds
from deeprelax.registry import find
from deeprelax.replica.loop import Plan, Training
from deeprelax.replica.stacked import StackedGradients
from deeprelax.replica.task import Task

STEPS = 10
ALONE, TOGETHER = "one by one", "one call"
REPLICAS = (2, 4, 8, 16, 32)
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp of 32 units": {"model": "mlp", "hidden": 32},
    "mlp": {"model": "mlp"},
    "cnn of 4 channels": {"model": "cnn", "channels": 4},
    "cnn": {"model": "cnn"},
}
_TOTAL = 10**6


def stacked_rows(how: How) -> list[Row]:
    """Return a row for each network and number of replicas."""
    once = replace(how, rounds=1, budget_s=0.5)
    return [
        replace(row, name=f"{replicas} replicas")
        for network, config in NETWORKS.items()
        for replicas in REPLICAS
        for row in compare(
            f"one call, digits, {network}, {how.device}",
            partial(_contenders, config, replicas, how.device),
            ALONE,
            once,
        )
        if row.name == TOGETHER
    ]


def _contenders(config: dict[str, Any], replicas: int, device: str) -> Contenders:
    chosen = find("digits")
    task = chosen.build(chosen.configure(config))
    stacked = StackedGradients(task, torch.device(device), replicas)
    return {
        ALONE: _steps(task, replicas, device),
        TOGETHER: _steps(task, replicas, device, stacked),
    }


def _steps(task: Task, replicas: int, device: str, stacked: StackedGradients | None = None) -> Call:
    trainings = [
        Training(
            task,
            Parle(replicas=replicas, period=STEPS, lr=f"cos({task.lr},0)"),
            Plan(total_steps=_TOTAL, batch_size=task.batch_size),
            index=a,
            device=torch.device(device),
            emit=lambda _: None,
            checkpoints=Path(),
            center_state=dict,
            company=stacked,
        )
        for a in range(replicas)
    ]
    turns = take_turns([one.asking() if stacked else one.run() for one in trainings], Rounds())

    def steps() -> None:
        for asks in turns:
            if not asks:
                return
            assert stacked is not None
            stacked.answer(asks)

    return steps
