"""The cores of the replicas that wait, put to work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

from deeprelax.exchange.center import Move, make_in_turn


class Crew:
    """Threads that make the moves of a center together; torch leaves Python's lock alone while it computes.

    They meet once in a round. Torch's own threads meet after every operation, which takes far longer than the operation
    where other work has the core of one of them; so each of these computes alone.

    Args:
        replicas: that wait on this machine; as many threads work, if there are as many cores.
    """

    def __init__(self, replicas: int) -> None:
        self._count = min(replicas, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(
            self._count, "deeprelax-crew", initializer=torch.set_num_threads, initargs=(1,)
        )

    def make(self, moves: Sequence[Move]) -> None:
        """Make all moves, each once."""
        if len(moves) == 1 or self._count == 1:
            make_in_turn(moves)
            return
        bounds = [len(moves) * thread // self._count for thread in range(self._count + 1)]
        for done in [self._threads.submit(make_in_turn, moves[begin:end]) for begin, end in pairwise(bounds)]:
            done.result()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
