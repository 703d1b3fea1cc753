"""A byte or half a byte for each number: integers with a scale for each block of 256."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deeprelax.coupling.codec.base import Codec, view_as

BLOCK = 256
_SCALE_BYTES = 4


@dataclass(frozen=True)
class _Scaled(Codec):
    """Integers q = round(v/s) in [-levels, levels] with s = max|v|/levels, the maximum taken over a block.

    Zero is exact. A block with a number that is not finite is decoded as NaN.
    """

    width = BLOCK
    levels: ClassVar[int]

    def _bytes_of(self, width: int) -> int:
        return _SCALE_BYTES + self._packed_width(width)

    def _encode(self, rows: Tensor, data: Tensor) -> None:
        scale = torch.linalg.vector_norm(rows, ord=torch.inf, dim=1, keepdim=True).div_(self.levels).float()
        data[:, :_SCALE_BYTES] = scale.view(torch.uint8)
        # A scale of 0 is that of a block of zeros, or of numbers whose scale is below the smallest float32.
        scale.masked_fill_(scale == 0, 1)
        self._pack(torch.div(rows, scale).round_(), data[:, _SCALE_BYTES:])

    def _decode(self, data: Tensor, rows: Tensor) -> None:
        scale = view_as(data[:, :_SCALE_BYTES], torch.float32)
        self._unpack(data[:, _SCALE_BYTES:], rows)
        rows.mul_(scale)

    @abstractmethod
    def _packed_width(self, width: int) -> int:
        """Return the bytes of a row's integers."""

    @abstractmethod
    def _pack(self, integers: Tensor, data: Tensor) -> None:
        """Write integers, given as floating-point numbers that may be overwritten, to bytes."""

    @abstractmethod
    def _unpack(self, data: Tensor, rows: Tensor) -> None:
        """Write the integers to ``rows``, as floating-point numbers."""


@dataclass(frozen=True)
class Int8(_Scaled):
    """One byte an element.

    Error: at most half a quantum, max|v|/254 of the block. Bytes: 260 for 256 elements, .254 of float32.

    Example:
        >>> Int8().nbytes(1000)
        1016
    """

    levels = 127

    def __str__(self) -> str:
        return "int8"

    def _packed_width(self, width: int) -> int:
        return width

    def _pack(self, integers: Tensor, data: Tensor) -> None:
        data.view(torch.int8).copy_(integers)

    def _unpack(self, data: Tensor, rows: Tensor) -> None:
        rows.copy_(data.view(torch.int8))


@dataclass(frozen=True)
class Int4(_Scaled):
    """Half a byte an element: the first half of a row in the low bits, the second half in the high bits.

    Error: at most half a quantum, max|v|/14 of the block. Bytes: 132 for 256 elements, .129 of float32.

    Example:
        >>> Int4().nbytes(1000)
        516
    """

    levels = 7

    def __str__(self) -> str:
        return "int4"

    def _packed_width(self, width: int) -> int:
        return (width + 1) // 2

    def _pack(self, integers: Tensor, data: Tensor) -> None:
        low, high = self._halves(integers.add_(8).to(torch.uint8))
        data.copy_(low)
        data[:, : high.shape[1]] |= high << 4

    def _unpack(self, data: Tensor, rows: Tensor) -> None:
        low, high = self._halves(rows)
        low.copy_(data & 15)
        high.copy_(data[:, : high.shape[1]] >> 4)
        rows.sub_(8)

    def _halves(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        middle = self._packed_width(rows.shape[1])
        return rows[:, :middle], rows[:, middle:]
