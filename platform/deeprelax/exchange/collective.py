"""The mean by torch.distributed: for processes that live and die together (torchrun, healthy fast fabrics)."""

from __future__ import annotations

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
    direction, and computes what a server would.

    Raises:
        ExchangeError: torch.distributed has not been initialized.
    """

    def __init__(self) -> None:
        if not dist.is_initialized():
            raise ExchangeError("No process group. Call torch.distributed.init_process_group() first, under torchrun.")
        self.meter = Meter()
        self._rounds = Rounds()

    def exchange(self, message: Message) -> Reply:
        """Average the message over all processes and move the center."""
        return self._gather(message) if message.codecs else self._reduce(message)

    def waited(self, seconds: float) -> None:
        """Count the time."""
        self.meter.wait_s += seconds

    def _reduce(self, message: Message) -> Reply:
        world = dist.get_world_size()
        mean = tuple(vector.detach().clone() for vector in message.vectors)
        scalars = torch.tensor(message.scalars, dtype=torch.float64, device=mean[0].device)
        for tensor in (*mean, scalars):
            dist.all_reduce(tensor)
            tensor.div_(world)
        reply = self._rounds.complete([replace(message, vectors=mean, scalars=tuple(scalars.tolist()))])
        if world > 1:
            payload = payload_bytes(message.vectors)
            self.meter.count(message.phase, sent=payload, received=payload)
        return replace(reply, members=world)

    def _gather(self, message: Message) -> Reply:
        world = dist.get_world_size()
        scalars = torch.tensor(message.scalars, dtype=torch.float64, device=message.vectors[0].device)
        everyone = [_gathered(tensor, world) for tensor in (*message.vectors, scalars)]
        messages = [
            replace(message, vectors=tuple(vectors), scalars=tuple(said.tolist()))
            for *vectors, said in zip(*everyone, strict=True)
        ]
        others = (world - 1) * payload_bytes(message.vectors)
        self.meter.count(message.phase, sent=others, received=others)
        return self._rounds.complete(messages)


def _gathered(tensor: Tensor, world: int) -> list[Tensor]:
    """Return the tensor of every process, in their order."""
    parts = [torch.empty_like(tensor) for _ in range(world)]
    dist.all_gather(parts, tensor.contiguous())
    return parts
