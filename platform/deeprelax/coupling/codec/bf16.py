"""Half the bytes: the upper half of each float32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.coupling.codec.base import CHUNK, Codec


@dataclass(frozen=True)
class Bf16(Codec):
    """bfloat16: 8 bits of mantissa, the range of float32.

    Error: at most 2⁻⁸ of each number, relative. Bytes: 2 an element.

    Example:
        >>> Bf16().nbytes(1000)
        2000
    """

    width = CHUNK

    def __str__(self) -> str:
        return "bf16"

    def _bytes_of(self, width: int) -> int:
        return 2 * width

    def _encode(self, rows: Tensor, data: Tensor) -> None:
        data.view(torch.bfloat16).copy_(rows)

    def _decode(self, data: Tensor, rows: Tensor) -> None:
        rows.copy_(data.view(torch.bfloat16))
