"""The mean by torch.distributed: for processes that live and die together (torchrun, healthy fast fabrics)."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
import torch.distributed as dist

from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ExchangeError
from deeprelax.exchange.base import Exchange
from deeprelax.exchange.meter import Meter, payload_bytes
from deeprelax.exchange.rounds import Rounds


class CollectiveExchange(Exchange):
    """All-reduces every message in the default process group (gloo on CPUs, NCCL on GPUs).

    Each process keeps its own copy of the center and moves it by the same arithmetic, so the copies agree.

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
        began = time.perf_counter()
        world = dist.get_world_size()
        mean = tuple(vector.detach().clone() for vector in message.vectors)
        scalars = torch.tensor(message.scalars, dtype=torch.float64, device=mean[0].device)
        for tensor in (*mean, scalars):
            dist.all_reduce(tensor)
            tensor.div_(world)
        reply = self._rounds.complete([replace(message, vectors=mean, scalars=tuple(scalars.tolist()))])
        if world > 1:
            self.meter.bytes_sent += payload_bytes(message.vectors)
            self.meter.bytes_received += payload_bytes(reply.vectors)
        self.meter.wait_s += time.perf_counter() - began
        return replace(reply, members=world)
