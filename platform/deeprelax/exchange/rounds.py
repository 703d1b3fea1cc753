"""A synchronous round: who spoke is averaged, the center moves, all hear the same reply."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deeprelax.coupling.message import Codecs, Message, Reply
from deeprelax.errors import ExchangeError
from deeprelax.exchange import coded
from deeprelax.exchange.center import Center, Vectors, mean_of, mean_scalars
from deeprelax.exchange.meter import Meter, payload_bytes


class Rounds:
    """The center and the rule of a synchronous round, without any transport.

    Args:
        center: the restored center of a resumed run; None starts from the mean of the joining replicas.
        step: mini-batch steps already made by a resumed run.
        exchanges: exchanges already completed by a resumed run.

    Attributes:
        stop: the replicas are told to stop, from the next reply on.
        meter: what arrived here from all replicas, and what left to them.
    """

    def __init__(self, center: Center | None = None, step: int = 0, exchanges: int = 0) -> None:
        self.center = center
        self.step = step
        self.exchanges = exchanges
        self.stop = False
        self.meter = Meter()

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Finish a round: average the messages in the order given, move the center, return the reply for all members.

        Raises:
            ExchangeError: the members are not at the same point of the run.
        """
        said = {(message.kind, message.step, message.exchanges) for message in messages}
        if len(said) != 1:
            raise ExchangeError(
                f"Replicas are out of step: {sorted(said)}. All members of a round must be at the same step."
            )
        reply = self._join(messages) if messages[0].kind == "join" else self._exchange(messages)
        for message in messages:
            self.meter.count(message.phase, sent=payload_bytes(reply.vectors), received=payload_bytes(message.vectors))
        return reply

    def finite(self, message: Message) -> bool:
        """Return whether all of the message's vectors are finite, coded ones as numbers."""
        if message.codecs and self.center is None:
            return True  # said before a group started again; it is not averaged
        vectors = coded.opened(message, self._about(message))
        # The sum costs a thirtieth of the test of every element, which is left to sums that overflow.
        return all(math.isfinite(v.sum()) or bool(v.isfinite().all()) for v in vectors)

    def _about(self, message: Message) -> Center | None:
        """Return the center of the elements that a message is about."""
        return self.center.part(message.slices) if self.center is not None and message.slices else self.center

    def _join(self, messages: Sequence[Message]) -> Reply:
        if self.center is None:
            self.center = Center(mean_of([message.vectors for message in messages]))
        return self._reply(self.center.known or self.center.vectors, messages)

    def _exchange(self, messages: Sequence[Message]) -> Reply:
        first, codecs = messages[0], messages[0].codecs
        if self.center is not None and first.kind == "center":
            self.center.prepare(first.center_steps, coded=bool(codecs))
        center = self._about(first)
        mean: Vectors = mean_of([coded.opened(message, center) for message in messages])
        self.step, self.exchanges = first.step, first.exchanges + 1
        if first.kind == "center":
            assert center is not None, "replicas join before they exchange"
            center.advance(mean, first.center_steps)
            mean = coded.told(center, codecs) if codecs else center.vectors
        elif codecs:
            assert self.center is not None, "replicas join before they exchange"
            mean = coded.averaged(self.center, mean, codecs)
        return self._reply(mean, messages, codecs)

    def _reply(self, vectors: Vectors, messages: Sequence[Message], codecs: Codecs = ()) -> Reply:
        return Reply(
            vectors=tuple(vectors),
            codecs=codecs,
            step=self.step,
            exchanges=self.exchanges,
            scalars=mean_scalars([message.scalars for message in messages]),
            members=len(messages),
            stop=self.stop,
        )
