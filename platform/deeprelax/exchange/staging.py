"""Between a GPU and the host: copies through pinned memory on a stream of their own, so that no step waits for them.

Nothing here runs where the vectors are on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor


@contextmanager
def beside(vectors: Sequence[Tensor], ready: torch.cuda.Event | None) -> Iterator[None]:
    """Queue the block's work on the vectors' GPU beside that of the steps, after ``ready``; wait for it at the end."""
    if ready is None:
        yield
        return
    stream = _stream(vectors[0].device)
    with torch.cuda.stream(stream):  # makes the GPU current, too: a thread begins with the first one
        stream.wait_event(ready)
        yield
        stream.synchronize()


def when_ready(vectors: Sequence[Tensor]) -> torch.cuda.Event | None:
    """Return the event that the vectors hold their numbers: all that is queued now has run. None on the CPU."""
    if not vectors or not vectors[0].is_cuda:
        return None
    with torch.cuda.device(vectors[0].device):
        event = torch.cuda.Event()
        event.record()
    return event


class Staging:
    """Pinned memory, and as much on the GPU, of one replica's messages; allocated once.

    Its buffers hold until the next exchange. That is ordered after all work that was queued when its message was ready,
    so nothing that still reads a buffer is overwritten.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, int], Tensor] = {}

    def out(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Return the vectors in host memory, once they are there."""
        if not vectors or not vectors[0].is_cuda:
            return list(vectors)
        held = [self._pinned("out", i, vector).copy_(vector, non_blocking=True) for i, vector in enumerate(vectors)]
        torch.cuda.current_stream(vectors[0].device).synchronize()
        return held

    def back(self, vectors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
        """Return vectors of the host on the device of ``like``, queued on the current stream."""
        if not like or not like[0].is_cuda:
            return list(vectors)
        device = like[0].device
        held = [self._pinned("back", i, vector).copy_(vector) for i, vector in enumerate(vectors)]
        return [self._on(device, i, vector).copy_(vector, non_blocking=True) for i, vector in enumerate(held)]

    def _pinned(self, way: str, index: int, like: Tensor) -> Tensor:
        return self._buffer(way, index, like, lambda: torch.empty(like.shape, dtype=like.dtype, pin_memory=True))

    def _on(self, device: torch.device, index: int, like: Tensor) -> Tensor:
        return self._buffer("device", index, like, lambda: torch.empty(like.shape, dtype=like.dtype, device=device))

    def _buffer(self, way: str, index: int, like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        held = self._buffers.get((way, index))
        if held is None or held.shape != like.shape or held.dtype != like.dtype:
            held = self._buffers[way, index] = make()
        return held


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
