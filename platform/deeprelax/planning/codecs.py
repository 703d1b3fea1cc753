"""How many bytes a vector takes on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOAT32_BYTES = 4.0
BLOCK = 256
"""Parameters that share one float32 scale."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to write a vector.

    Args:
        name: on the command line.
        bytes_per_parameter: of a dense vector, scales included.
        kept: part of the parameters that is sent, each with an index of 4 bytes; 1 sends all, without indices.
        passes: readings and writings of the float32 vector to encode or decode it, in copies.
    """

    name: str
    bytes_per_parameter: float
    kept: float = 1.0
    passes: float = 0.0

    @property
    def summable(self) -> bool:
        """Whether messages can be added as they are, as a ring all-reduce does."""
        return self.kept == 1.0 and self.bytes_per_parameter >= 2

    def message_bytes(self, params: float, members: int = 1) -> float:
        """Return the bytes of the mean of ``members`` messages of ``params`` parameters.

        A dense mean is as large as a message. A sparse one has the union of what the members kept: of independent
        choices a parameter is in it with probability 1 - (1 - k)^m; where indices no longer pay it is sent dense::

            P · min(8 (1 - (1 - k)^m), 4)
        """
        if self.kept == 1.0:
            return params * self.bytes_per_parameter
        union = 1 - (1 - self.kept) ** members
        return params * min((self.bytes_per_parameter + 4) * union, FLOAT32_BYTES)


CODECS: Mapping[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec(name="float32", bytes_per_parameter=FLOAT32_BYTES),
        Codec(name="bf16", bytes_per_parameter=2.0, passes=0.75),  # reads 4 bytes, writes 2
        Codec(name="int8", bytes_per_parameter=1 + 4 / BLOCK, passes=2.0),  # error feedback reads and writes once more
        Codec(name="int4", bytes_per_parameter=0.5 + 4 / BLOCK, passes=2.0),
        Codec(name="topk", bytes_per_parameter=FLOAT32_BYTES, kept=0.01, passes=3.0),  # a selection and the feedback
    )
}
