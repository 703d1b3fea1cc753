"""How many bytes a vector takes on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT32_BYTES = 4.0
_BLOCK = 256
_KEPT = 0.01


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to write a vector; both directions of an exchange use it.

    Args:
        name: on the command line.
        bytes_per_parameter: of a message, scales and indices included.
        summable: messages can be added as they are, as a ring all-reduce does.
        passes: readings and writings of the float32 vector to encode or decode it, in copies.
    """

    name: str
    bytes_per_parameter: float
    summable: bool = False
    passes: float = 0.0


CODECS: Mapping[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec(name="float32", bytes_per_parameter=FLOAT32_BYTES, summable=True),
        Codec(name="bf16", bytes_per_parameter=2.0, summable=True, passes=0.75),  # reads 4 bytes, writes 2
        # A float32 scale a block; error feedback reads and writes once more.
        Codec(name="int8", bytes_per_parameter=1 + 4 / _BLOCK, passes=2.0),
        Codec(name="int4", bytes_per_parameter=0.5 + 4 / _BLOCK, passes=2.0),
        # A float32 and the 2 bytes of an index for each that is kept; a selection and the feedback.
        Codec(name="topk", bytes_per_parameter=6 * _KEPT, passes=3.0),
    )
}
"""The codecs of :mod:`deeprelax.coupling.codec`, without torch; a test holds the two together."""
