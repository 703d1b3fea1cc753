"""What an exchange costs: bytes out, bytes in, seconds waited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from deeprelax.coupling.message import Phase


@dataclass
class Meter:
    """Counters of one replica, or of the center; a run of one replica exchanges nothing.

    Args:
        bytes_sent: payload that left here.
        bytes_received: payload that arrived.
        wait_s: seconds from handing a message over to holding its reply.
        phases: bytes sent and received by what they were spent on.
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    wait_s: float = 0.0
    phases: dict[Phase, int] = field(default_factory=dict)

    def count(self, phase: Phase, *, sent: int, received: int) -> None:
        """Add payload that left and arrived."""
        self.bytes_sent += sent
        self.bytes_received += received
        self.phases[phase] = self.phases.get(phase, 0) + sent + received

    @classmethod
    def total(cls, meters: Iterable[Meter]) -> Meter:
        """Return the sum of the bytes."""
        total = cls()
        for meter in meters:
            total.bytes_sent += meter.bytes_sent
            total.bytes_received += meter.bytes_received
            for phase, count in meter.phases.items():
                total.phases[phase] = total.phases.get(phase, 0) + count
        return total

    def row(self) -> dict[str, float]:
        """Return the counters by their telemetry names."""
        return {
            "exchange/bytes_sent": self.bytes_sent,
            "exchange/bytes_received": self.bytes_received,
            "exchange/wait_s": self.wait_s,
            **{f"exchange/{phase}_bytes": count for phase, count in self.phases.items()},
        }


def payload_bytes(vectors: Sequence[Tensor]) -> int:
    """Return the bytes of flat tensors."""
    return sum(vector.numel() * vector.element_size() for vector in vectors)
