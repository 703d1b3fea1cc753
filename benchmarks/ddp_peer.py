"""The peer of ``slow_link.py``: torch's DistributedDataParallel on a task of the library, as a user writes it.

Run by ``torch.distributed``'s environment variables. Rank 0 prints a JSON line an evaluation, and one at the end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import count
from typing import cast

import click
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deeprelax.registry import find
from deeprelax.replica.batches import Batches
from deeprelax.replica.evaluation import evaluate
from deeprelax.replica.start import initialized
from deeprelax.replica.task import Task

CPU = torch.device("cpu")
ALONE_STEPS = 20
"""Steps without exchange, before the clock starts, that tell what computing alone takes."""


def batches(task: Task, size: int, rank: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the mini-batches of a rank, in the order in which replica ``rank`` of a run with seed 0 sees them."""
    order = Batches(samples=len(task.train_data), batch_size=size, replica=rank, replicas=dist.get_world_size())
    for number in count():
        for rows in order.of_pass(number):
            yield task.train_data.batch(rows)


class Peer:
    """Data-parallel training of a task.

    Args:
        task: what is trained.
        lr: learning rate, constant; Nesterov's momentum is .9.
    """

    def __init__(self, task: Task, lr: float) -> None:
        self.task = task
        self.model = DistributedDataParallel(initialized(task, seed=0, index=0))
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9, nesterov=True)
        self._batches = batches(task, task.batch_size, dist.get_rank())

    def step(self, *, exchange: bool = True) -> None:
        """Make one step; without exchange, only its computation."""
        inputs, targets = next(self._batches)
        self._optimizer.zero_grad()
        with nullcontext() if exchange else self.model.no_sync():
            loss = self.task.loss(self.model(inputs), targets)
            loss.backward()
        if exchange:
            self._optimizer.step()

    def error(self) -> float:
        """Return the test error; every rank gets rank 0's."""
        found = torch.zeros(1)
        if dist.get_rank() == 0:
            found[0] = evaluate(cast("nn.Module", self.model.module), self.task, CPU)["error"]
        dist.broadcast(found, src=0)
        return float(found)


@click.command()
@click.option("--config", help="Of fashion_mnist, as JSON.")
@click.option("--lr", type=float)
@click.option("--steps", type=int, help="At most.")
@click.option("--every", type=int, help="Steps between two evaluations.")
@click.option("--target", type=float, help="Test error at which to stop.")
def main(config: str, lr: float, steps: int, every: int, target: float) -> None:
    """Train until the target or the last step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    peer = Peer(find("fashion_mnist").build(json.loads(config)), lr)
    began = time.perf_counter()
    for _ in range(ALONE_STEPS):
        peer.step(exchange=False)
    say({"alone_s": (time.perf_counter() - began) / ALONE_STEPS})
    dist.barrier()
    began, judging_s, error = time.perf_counter(), 0.0, 1.0
    for step in range(1, steps + 1):
        peer.step()
        if step % every == 0 and error > target:
            before = time.perf_counter()
            error = peer.error()
            judging_s += time.perf_counter() - before
            say({"step": step, "seconds": time.perf_counter() - began, "error": error})
        if error <= target:
            break
    say({"step_s": (time.perf_counter() - began - judging_s) / step})
    dist.destroy_process_group()


def say(row: Mapping[str, float]) -> None:
    """Print a row, if this is rank 0."""
    if dist.get_rank() == 0:
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
