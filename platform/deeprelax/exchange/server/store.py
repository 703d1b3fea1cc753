"""What one server keeps: its slice of the center, and how messages about it are packed."""

from __future__ import annotations

from dataclasses import replace

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.center import Center
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.wire import Named, Packed, pack, pack_named, unpack, unpack_named


class Store:
    """A slice of every vector.

    Args:
        restored: the slices of a saved center by name; nothing starts from the mean of the first joins.
        step: mini-batch steps already made by a resumed run.
        exchanges: exchanges already completed by a resumed run.
    """

    def __init__(self, restored: Named, step: int = 0, exchanges: int = 0) -> None:
        center = Center.restored(unpack_named(restored)) if restored else None
        self.rounds = Rounds(center, step, exchanges)

    def opened(self, header: Message, packed: Packed) -> Message:
        """Return the message whose vectors came packed."""
        return replace(header, vectors=tuple(unpack(packed)))

    def sealed(self, reply: Reply) -> Packed:
        """Return the reply's vectors packed, its group's last: views of the center, valid until it moves."""
        return pack((*reply.vectors, *reply.group))

    def named(self) -> Named:
        """Return center and velocity by name, in storage of their own; nothing before the first join."""
        return pack_named(self.rounds.center.state()) if self.rounds.center is not None else {}
