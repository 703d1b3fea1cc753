"""Only the largest numbers, and where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.coupling.codec.base import CHUNK, Codec, view_as

_INDEX_BYTES, _VALUE_BYTES = 2, 4


@dataclass(frozen=True)
class TopK(Codec):
    """The k = ⌈fraction·W⌉ numbers of largest magnitude in each row of W = 4096, in float32; the others are 0.

    Chosen row by row, not over the whole vector: an index takes two bytes, no sort runs over all elements, and a slice
    of the vector chooses the same. Among equal magnitudes torch decides which.

    Error: each number that is left out, whole. Bytes: 6 for each number kept.

    Args:
        fraction: of the numbers, in (0, 1].

    Example:
        >>> TopK(0.01).nbytes(4096)
        246
    """

    fraction: float = 0.01

    width = CHUNK

    def __str__(self) -> str:
        return f"topk({self.fraction:g})"

    def _bytes_of(self, width: int) -> int:
        return (_INDEX_BYTES + _VALUE_BYTES) * self._kept(width)

    def _kept(self, width: int) -> int:
        return math.ceil(self.fraction * width)

    def _encode(self, rows: Tensor, data: Tensor) -> None:
        kept = self._kept(rows.shape[1])
        indices = rows.abs().topk(kept, dim=1, sorted=False).indices
        data[:, : _INDEX_BYTES * kept] = indices.to(torch.int16).view(torch.uint8)
        data[:, _INDEX_BYTES * kept :] = rows.gather(1, indices).float().view(torch.uint8)

    def _decode(self, data: Tensor, rows: Tensor) -> None:
        border = _INDEX_BYTES * self._kept(rows.shape[1])
        indices = view_as(data[:, :border], torch.int16).long()
        values = view_as(data[:, border:], torch.float32)
        indices.clamp_(0, rows.shape[1] - 1)  # a message that is damaged must not reach beyond its row
        rows.zero_().scatter_(1, indices, values.to(rows.dtype))
