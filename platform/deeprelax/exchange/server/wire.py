"""What travels: flat vectors as byte arrays, which Ray moves through shared memory and reads without a copy.

Sent as torch tensors the same vectors take 3 to 9 times as long. Bytes, because numpy has no bfloat16.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeprelax.coupling.codec import CHUNK
from deeprelax.coupling.message import Codecs, Slice


@dataclass(frozen=True)
class Packed:
    """Vectors ready to be sent.

    Args:
        dtypes: the name of each vector's type, as in ``torch.float32``.
        arrays: the bytes of each vector; when read from shared memory they must not be written.
    """

    dtypes: tuple[str, ...]
    arrays: tuple[NDArray[np.uint8], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors."""
        return sum(array.nbytes for array in self.arrays)

    def copy(self) -> Packed:
        """Return the same vectors in storage of their own."""
        return Packed(self.dtypes, tuple(array.copy() for array in self.arrays))


def pack(vectors: Sequence[Tensor]) -> Packed:
    """Return the vectors as bytes; on the CPU these are views, not copies."""
    flat = [vector.detach().cpu().contiguous() for vector in vectors]
    dtypes = tuple(str(vector.dtype).removeprefix("torch.") for vector in flat)
    return Packed(dtypes, tuple(vector.view(torch.uint8).numpy() for vector in flat))


def unpack(packed: Packed) -> list[Tensor]:
    """Return the vectors as flat tensors on the CPU that share the packed bytes: read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        raw = [torch.from_numpy(array) for array in packed.arrays]
    dtypes: list[torch.dtype] = [getattr(torch, name) for name in packed.dtypes]
    # numpy gives an empty array the stride 0, which torch refuses to view as another type
    return [v.view(d) if len(v) else torch.empty(0, dtype=d) for v, d in zip(raw, dtypes, strict=True)]


class Share(NamedTuple):
    """What one server gets of a message: a piece of each vector, and where it lies in the server's own vectors."""

    pieces: list[Tensor]
    slices: list[Slice]


def split(
    vectors: Sequence[Tensor],
    parts: int,
    codecs: Codecs = (),
    slices: Sequence[Slice] = (),
    sizes: Sequence[int] = (),
) -> list[Share]:
    """Return the share that each of ``parts`` servers holds, nearly equally many bytes of a whole vector each.

    The borders are at multiples of :data:`~deeprelax.coupling.codec.CHUNK` elements, so a piece of a coded vector is
    the code of the piece.

    Args:
        vectors: as they travel.
        parts: servers.
        codecs: of the vectors; empty: none.
        slices: of the center's vectors that these are; empty: all of them.
        sizes: elements of the center's vectors; needed with codecs or slices.
    """
    codecs = codecs or (None,) * len(vectors)
    lengths = list(sizes[: len(vectors)]) or [len(vector) for vector in vectors]
    within = slices or [(0, length) for length in lengths]
    shares = [Share([], []) for _ in range(parts)]
    for vector, codec, length, (begin, end) in zip(vectors, codecs, lengths, within, strict=True):
        chunks = -(-length // CHUNK)
        borders = [min(length, chunks * part // parts * CHUNK) for part in range(parts + 1)]
        for share, first, last in zip(shares, borders, borders[1:], strict=False):
            here, there = max(begin, first), max(begin, first, min(end, last))
            low, high = here - begin, there - begin
            assert codec is None or low % CHUNK == 0 or low >= end - begin, "a code is cut between its rows"
            piece = vector[codec.nbytes(low) : codec.nbytes(high)] if codec else vector[low:high]
            share.pieces.append(piece)
            share.slices.append((here - first, there - first) if there > here else (0, 0))
    return shares


def join(slices: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Return the whole vectors from the slices of every server, without a copy if there is one server."""
    if len(slices) == 1:
        return list(slices[0])
    return [torch.cat(pieces) for pieces in zip(*slices, strict=True)]


Named = dict[str, Packed]
"""Single vectors by name."""


def pack_named(vectors: Mapping[str, Tensor]) -> Named:
    """Return named vectors as bytes in storage of their own."""
    return {name: pack([vector]).copy() for name, vector in vectors.items()}


def unpack_named(named: Named) -> dict[str, Tensor]:
    """Return the vectors that :func:`pack_named` packed: read-only."""
    return {name: unpack(packed)[0] for name, packed in named.items()}
