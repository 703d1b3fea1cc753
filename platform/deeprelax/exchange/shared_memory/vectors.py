"""Flat vectors in memory that several processes see."""

from __future__ import annotations

import itertools
import math
import mmap
import operator
import os
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

Layout = tuple[tuple[str, int], ...]
"""Type and length of each vector, such as ``(("float32", 1000),)``."""

_BLOCK_ELEMENTS = 1 << 18
_ALIGNMENT = 64  # bytes of a cache line
_keys = itertools.count()


class SharedVectors:
    """Vectors in one piece of anonymous memory, which another process maps from the descriptor it is sent.

    The memory has no name and is no file in ``/dev/shm``: the kernel frees it once no living process holds it, and the
    size of ``/dev/shm``, 64 MB in a container, does not bound it.

    Args:
        layout: of the vectors.
        descriptor: of the memory; closed with this object.

    Attributes:
        key: names this memory among all that its maker has shared.
        vectors: one flat tensor each; a tensor keeps the memory, whether or not this object is kept.
    """

    def __init__(self, layout: Layout, descriptor: int) -> None:
        self.layout = layout
        self.descriptor = descriptor
        self.key = next(_keys)
        weakref.finalize(self, os.close, descriptor)
        memory = mmap.mmap(descriptor, _size(layout))
        self.vectors: list[Tensor] = []
        offset = 0
        for name, length in layout:
            dtype: torch.dtype = getattr(torch, name)
            self.vectors.append(
                torch.frombuffer(memory, dtype=dtype, count=length, offset=offset)
                if length
                else torch.empty(0, dtype=dtype)
            )
            offset += _padded(dtype, length)

    @classmethod
    def like(cls, vectors: Sequence[Tensor]) -> SharedVectors:
        """Return a copy of flat vectors, on any device, in new memory.

        Raises:
            OSError: the system gives no such memory.
        """
        layout = layout_of(vectors)
        descriptor = os.memfd_create("deeprelax")
        os.ftruncate(descriptor, _size(layout))
        made = cls(layout, descriptor)
        made.write(vectors)
        return made

    def write(self, vectors: Sequence[Tensor]) -> bool:
        """Copy vectors of the same layout in, from any device; return whether all are finite.

        A block is summed while it is in the cache; only a sum that is not finite makes one look at every element.
        """
        sums = 0.0
        for shared, vector in zip(self.vectors, vectors, strict=True):
            for begin in range(0, len(shared), _BLOCK_ELEMENTS):
                part = slice(begin, begin + _BLOCK_ELEMENTS)
                sums += float(shared[part].copy_(vector[part]).sum())
        return math.isfinite(sums) or all(bool(shared.isfinite().all()) for shared in self.vectors)

    def holds(self, vectors: Sequence[Tensor]) -> bool:
        """True if these are the very tensors of this memory."""
        return len(vectors) == len(self.vectors) and all(map(operator.is_, vectors, self.vectors))


def layout_of(vectors: Sequence[Tensor]) -> Layout:
    """Return the layout of flat vectors."""
    return tuple((str(vector.dtype).removeprefix("torch."), vector.numel()) for vector in vectors)


def _size(layout: Layout) -> int:
    return max(1, sum(_padded(getattr(torch, name), length) for name, length in layout))


def _padded(dtype: torch.dtype, length: int) -> int:
    return -(-dtype.itemsize * length // _ALIGNMENT) * _ALIGNMENT
