"""The one interface of every codec.

A vector is cut into rows of equal length, and each row becomes its own bytes, one after the other. So a slice of the
vector that begins and ends at a row is a slice of the bytes, and servers that each hold a slice decode the numbers that
one server would.

Shapes: P elements of a vector, R rows of W elements, N bytes of a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

CHUNK = 4096
"""Elements; the length of every codec's row divides it, so vectors may be cut at its multiples."""

_AT_ONCE = 2**16
"""Elements coded at once: few enough that what is written in between stays in the processor's cache."""


@dataclass(frozen=True)
class Codec(ABC):
    """Turns a flat vector of floating-point numbers into bytes and back.

    Rounding is deterministic (to nearest, ties to even), so every transport gives the same bits and a resumed run needs
    no random state; the sender's residual, not chance, takes the bias away. A number that is not finite makes its
    whole row, or itself, not finite: divergence is never hidden.
    """

    width: ClassVar[int]
    """W, the elements of a whole row; the last row may be shorter."""

    def encode(self, vector: Tensor) -> Tensor:
        """Return the bytes of a vector of shape (P,): uint8 of shape (``nbytes(P)``,), on the same device."""
        data = torch.empty(self.nbytes(len(vector)), dtype=torch.uint8, device=vector.device)
        for rows, part in zip(self._rows(vector), self._row_bytes(data, len(vector)), strict=True):
            self._encode(rows, part)
        return data

    def decode(self, data: Tensor, like: Tensor) -> Tensor:
        """Return the vector of which ``data`` are the bytes, in the shape and type of ``like``."""
        out = torch.empty_like(like)
        for part, rows in zip(self._row_bytes(data, len(out)), self._rows(out), strict=True):
            self._decode(part, rows)
        return out

    def say(self, vector: Tensor, unsaid: Tensor) -> Tensor:
        """Return the bytes of a vector and of what was unsaid before; what they leave out becomes ``unsaid``.

        This is error feedback: the sum of what was said is the sum of the vectors, but for what is unsaid now.
        """
        data = self.encode(unsaid.add_(vector))
        unsaid.sub_(self.decode(data, unsaid))
        return data

    def nbytes(self, size: int) -> int:
        """Return the bytes of a vector of ``size`` elements."""
        whole, rest = divmod(size, self.width)
        return whole * self._bytes_of(self.width) + (self._bytes_of(rest) if rest else 0)

    @abstractmethod
    def _bytes_of(self, width: int) -> int:
        """Return N for a row of ``width`` elements."""

    @abstractmethod
    def _encode(self, rows: Tensor, data: Tensor) -> None:
        """Write rows (R, W) to bytes (R, N)."""

    @abstractmethod
    def _decode(self, data: Tensor, rows: Tensor) -> None:
        """Write bytes (R, N) to rows (R, W)."""

    def _rows(self, vector: Tensor) -> Iterator[Tensor]:
        """Yield views of the vector's rows, a number of them at a time, and of the shorter row at its end."""
        return _cut(vector, len(vector) // self.width, self.width)

    def _row_bytes(self, data: Tensor, size: int) -> Iterator[Tensor]:
        """Yield views of the bytes of the same rows."""
        return _cut(data, size // self.width, self._bytes_of(self.width), at_once=_AT_ONCE // self.width)


def _cut(flat: Tensor, rows: int, width: int, at_once: int | None = None) -> Iterator[Tensor]:
    step = at_once or _AT_ONCE // width
    whole = flat[: rows * width].view(rows, width)
    for begin in range(0, rows, step):
        yield whole[begin : begin + step]
    if len(flat) > rows * width:
        yield flat[rows * width :].view(1, -1)


def view_as(data: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a part of each row of bytes as numbers, in storage of their own: a part need not lie at a whole number."""
    return data.clone(memory_format=torch.contiguous_format).view(dtype)
