"""What an exchange costs one replica: bytes out, bytes in, seconds waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class Meter:
    """Counters of one replica; a run of one replica exchanges nothing.

    Args:
        bytes_sent: payload that left this replica.
        bytes_received: payload that arrived.
        wait_s: seconds from handing a message over to holding its reply.
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    wait_s: float = 0.0

    def row(self) -> dict[str, float]:
        """Return the counters by their telemetry names."""
        return {
            "exchange/bytes_sent": self.bytes_sent,
            "exchange/bytes_received": self.bytes_received,
            "exchange/wait_s": self.wait_s,
        }


def payload_bytes(vectors: Sequence[Tensor]) -> int:
    """Return the bytes of flat tensors."""
    return sum(vector.numel() * vector.element_size() for vector in vectors)
