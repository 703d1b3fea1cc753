"""A synchronous round: who spoke is averaged, the center moves, all hear the same reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

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
            told = reply.told(message.group)
            sent = payload_bytes((*told.vectors, *told.group))
            self.meter.count(message.phase, sent=sent, received=payload_bytes(message.vectors))
        return reply

    def finite(self, message: Message) -> bool:
        """Return whether all of the message's vectors are finite, coded ones as numbers."""
        if message.finite is not None:
            return message.finite
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
        members = [coded.opened(message, center) for message in _counted(messages)]
        self.step, self.exchanges = first.step, first.exchanges + 1
        if first.kind == "center":
            assert center is not None, "replicas join before they exchange"
            center.meet(members, first.center_steps)
            words = coded.told(center, codecs) if codecs else center.vectors
        else:
            words = mean_of(members)
            if codecs:
                assert self.center is not None, "replicas join before they exchange"
                words = coded.averaged(self.center, words, codecs)
        return replace(self._reply(words, messages, codecs), groups=_means_of_groups(messages))

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


def _counted(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages that are averaged: all of them, or the best one where they are ranked."""
    scores = [math.inf if message.score is None or math.isnan(message.score) else message.score for message in messages]
    return messages if messages[0].score is None else [messages[scores.index(min(scores))]]


def _means_of_groups(messages: Sequence[Message]) -> dict[int, tuple[Tensor, ...]]:
    groups: dict[int, list[Message]] = {}
    for message in messages:
        if message.group is not None:
            groups.setdefault(message.group, []).append(message)
    return {
        group: tuple(mean_of([message.vectors for message in _counted(members)])) for group, members in groups.items()
    }
