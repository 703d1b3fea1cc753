"""The library's whole training loop against one written by hand: same model, data, batches and optimizer.

One call is ``STEPS`` mini-batch steps of one replica, telemetry and exchange with itself included. Parle has more to do
than SGD (spring, average, outer step), so its ratio is the price of the method too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from benchmarks.measure import Call, Contenders, How, Row, compare
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from deeprelax.coupling import Coupling, Parle, Sgd
from deeprelax.exchange.rounds import Rounds
from deeprelax.registry import find
from deeprelax.replica.batches import Batches
from deeprelax.replica.loop import Plan, Training
from deeprelax.replica.task import Task

STEPS = 25
PLAIN = "plain torch"
PROBLEMS = ("digits", "fashion_mnist")
_TOTAL = 10**6


def loop_rows(how: How) -> list[Row]:
    """Return the loop under SGD and under Parle, one replica, on the small networks of both problems."""
    once = replace(how, rounds=1, budget_s=8)
    return [
        row
        for problem in PROBLEMS
        for row in compare(
            f"{STEPS} steps of {problem}, {how.device}", partial(_contenders, problem, how.device), PLAIN, once
        )
    ]


def _contenders(problem: str, device: str) -> Contenders:
    task = _task(problem)
    lr = f"cos({task.lr},0)"
    return {
        PLAIN: _plain(task, device),
        "deeprelax, sgd": _library(task, Sgd(lr=lr), device),
        "deeprelax, parle": _library(task, Parle(replicas=1, period=STEPS, lr=lr), device),
    }


def _task(problem: str) -> Task:
    chosen = find(problem)
    return chosen.build(chosen.configure({}))


def _plain(task: Task, device: str) -> Call:
    model = task.model().to(device).train()
    optimizer = SGD(model.parameters(), lr=task.lr, momentum=0.9, nesterov=True, fused=True)
    schedule = LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / _TOTAL)))
    batches = _endless(Batches(samples=len(task.train_data), batch_size=task.batch_size))

    def steps() -> None:
        for _ in range(STEPS):
            inputs, targets = task.train_data.batch(next(batches))
            optimizer.zero_grad()
            task.loss(model(inputs.to(device)), targets.to(device)).backward()
            optimizer.step()
            schedule.step()

    return steps


def _library(task: Task, coupling: Coupling, device: str) -> Call:
    rounds = Rounds()
    loop = Training(
        task,
        coupling,
        Plan(total_steps=_TOTAL, batch_size=task.batch_size),
        device=torch.device(device),
        emit=lambda _: None,
        checkpoints=Path(),
        center_state=dict,
    ).run()
    reply = rounds.complete([next(loop)])

    def steps() -> None:
        nonlocal reply
        goal = rounds.step + STEPS
        while rounds.step < goal:
            reply = rounds.complete([loop.send(reply)])

    return steps


def _endless(batches: Batches) -> Iterator[torch.Tensor]:
    number = 0
    while True:
        yield from batches.of_pass(number)
        number += 1
