"""The mean by torch.distributed: for processes that live and die together (torchrun, healthy fast fabrics)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ExchangeError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.meter import Meter, payload_bytes
from deeprelax.exchange.rounds import Rounds


class CollectiveExchange(Exchange):
    """All-reduces every message in the default process group (gloo on CPUs, NCCL on GPUs).

    Each process keeps its own copy of the center and moves it by the same arithmetic, so the copies agree. Coded
    messages cannot be summed on the way: each process gathers those of all n, (n - 1) times the bytes of one in each
    direction, and computes what a server would. The members of a group (deputies under a sheriff) have a process group
    of their own; an exchange that does not move the center stays within it.

    Raises:
        ExchangeError: torch.distributed has not been initialized.
    """

    def __init__(self) -> None:
        if not dist.is_initialized():
            raise ExchangeError("No process group. Call torch.distributed.init_process_group() first, under torchrun.")
        self.meter = Meter()
        self._rounds = Rounds()
        self._own: dist.ProcessGroup | None = None

    def exchange(self, message: Message) -> Reply:
        """Average the message over all processes and over those of its group, and move the center.

        Raises:
            ExchangeError: the method lets replicas pull the center alone, which all-reduce cannot.
        """
        if message.kind == "elastic":
            raise ExchangeError("Invalid mode='async' under torch.distributed. Use mode='sync', or deeprelax.fit.")
        return self._gather(message) if message.codecs else self._reduce(message)

    def waited(self, seconds: float) -> None:
        """Count the time."""
        self.meter.wait_s += seconds

    def _reduce(self, message: Message) -> Reply:
        world = dist.get_world_size()
        stays = bool(message.center_steps) and not any(step.lr for step in message.center_steps)
        mean = message.vectors if stays else _combined(message, dist.group.WORLD)
        group = () if message.group is None else _combined(message, self._group(message.group, mean[0].device))
        scalars = torch.tensor(message.scalars, dtype=torch.float64, device=mean[0].device)
        dist.all_reduce(scalars)
        scalars.div_(world)
        told = replace(message, vectors=mean, scalars=tuple(scalars.tolist()), group=None, score=None)
        reply = self._rounds.complete([told])
        if world > 1:
            payload = ((not stays) + (message.group is not None)) * payload_bytes(message.vectors)
            self.meter.count(message.phase, sent=payload, received=payload)
        return replace(reply, members=world, group=group)

    def _gather(self, message: Message) -> Reply:
        world = dist.get_world_size()
        scalars = torch.tensor(message.scalars, dtype=torch.float64, device=message.vectors[0].device)
        everyone = [_gathered(tensor, dist.group.WORLD) for tensor in (*message.vectors, scalars)]
        messages = [
            replace(message, vectors=tuple(vectors), scalars=tuple(said.tolist()))
            for *vectors, said in zip(*everyone, strict=True)
        ]
        others = (world - 1) * payload_bytes(message.vectors)
        self.meter.count(message.phase, sent=others, received=others)
        return self._rounds.complete(messages)

    def _group(self, group: int, device: torch.device) -> dist.ProcessGroup:
        """Return the processes of this one's group, found at the first exchange by all processes together."""
        if self._own is None:
            groups = [int(number) for number in _gathered(torch.tensor(group, device=device), dist.group.WORLD)]
            for number in sorted(set(groups)):
                made = dist.new_group([rank for rank, other in enumerate(groups) if other == number])
                self._own = made if number == group else self._own
        assert self._own is not None
        return self._own


def _combined(message: Message, group: dist.ProcessGroup | None) -> tuple[Tensor, ...]:
    """Return the mean of the vectors over a group, or those of its best process where messages are ranked."""
    combined = tuple(vector.detach().clone() for vector in message.vectors)
    if message.score is None:
        for tensor in combined:
            dist.all_reduce(tensor, group=group)
            tensor.div_(dist.get_world_size(group))
        return combined
    score = math.inf if math.isnan(message.score) else message.score
    scores = [
        float(one) for one in _gathered(torch.tensor(score, dtype=torch.float64, device=combined[0].device), group)
    ]
    for tensor in combined:
        dist.broadcast(tensor, group_src=scores.index(min(scores)), group=group)
    return combined


def _gathered(tensor: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    """Return the tensor of every process of a group, in the order of their ranks."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return parts
