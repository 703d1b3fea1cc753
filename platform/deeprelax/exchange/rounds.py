"""What moves the center: a round, in which all are averaged and hear the same, or a pull of one replica alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from torch import Tensor

from deeprelax.coupling.message import Codecs, Message, Reply
from deeprelax.errors import ExchangeError
from deeprelax.exchange import coded
from deeprelax.exchange.center import Center, Vectors, mean_of, mean_scalars
from deeprelax.exchange.meter import Meter, payload_bytes

_LARGEST_SQUARE = 1e300  # stands for the squares of finite numbers that are not finite


class Rounds:
    """The center and the rules by which it moves, without any transport.

    Args:
        center: the restored center of a resumed run; None starts from the mean of the joining replicas.
        step: mini-batch steps already made by a resumed run.
        exchanges: exchanges already completed by a resumed run.

    Attributes:
        stop: every reply says so from now on.
        save: the next reply says so.
        seed: of the order in which replicas in one process pull.
        meter: what arrived here from all replicas, and what left to them.
    """

    def __init__(self, center: Center | None = None, step: int = 0, exchanges: int = 0) -> None:
        self.center = center
        self.step = step
        self.exchanges = exchanges
        self.stop = False
        self.save = False
        self.seed = 0
        self.meter = Meter()
        self._stop_at: int | None = None
        self._pulls = 0
        self._pulls_before: dict[int, int] = {}

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Finish a round: average the messages in the order given, move the center, return the reply for all members.

        A single ``elastic`` message pulls; whose it is matters only where staleness is counted.

        Raises:
            ExchangeError: the members are not at the same point of the run.
        """
        if self.center is not None and all(message.kind == "join" for message in messages):
            return self._metered(self._join(messages), messages)  # whoever is elsewhere goes to where the run is
        said = {(message.kind, message.step, message.exchanges) for message in messages}
        if len(said) != 1:
            raise ExchangeError(
                f"Replicas are out of step: {sorted(said)}. All members of a round must be at the same step."
            )
        if messages[0].kind == "join":
            return self._metered(self._join(messages), messages)
        if messages[0].kind == "elastic":
            (message,) = messages
            return self.pull(message, 0)
        return self._metered(self._exchange(messages), messages)

    def complete_all(self, messages: Sequence[Message]) -> list[Reply]:
        """Return a reply for each message of replicas that take turns in one process, in their order.

        Who pulls the center alone does so in an order that is random, and the same at every repetition.
        """
        if messages[0].kind != "elastic":
            return [self.complete(messages)] * len(messages)
        order = list(range(len(messages)))
        Random(f"{self.seed}/{messages[0].exchanges}").shuffle(order)
        replies = {who: self.pull(messages[who], who) for who in order}
        return [replies[who] for who in sorted(replies)]

    def pull(self, message: Message, who: int) -> Reply:
        """Let one replica and the center pull each other: d = α(x - x̄), x ← x - d, x̄ ← x̄ + d (asynchronous EASGD).

        The reply holds the center before, from which the replica computes the same d. Everyone counts its own steps;
        ``step`` and ``exchanges`` of the run are those of the foremost, where a newcomer starts. A stop lets all come
        to the same step, so that what they save belongs together.

        Args:
            message: of the kind ``elastic``.
            who: the replica.
        """
        assert self.center is not None, "replicas join before they exchange"
        before = [vector.clone() for vector in self.center.vectors]
        self.center.advance(message.vectors, message.center_steps)
        staleness = self._pulls - self._pulls_before.get(who, self._pulls)
        self._pulls += 1
        self._pulls_before[who] = self._pulls
        if self.stop and self._stop_at is None:
            self._stop_at = self.exchanges + 1
        own = message.exchanges + 1
        self.step, self.exchanges = max(self.step, message.step), max(self.exchanges, own)
        reply = Reply(
            vectors=tuple(before),
            step=message.step,
            exchanges=own,
            scalars=message.scalars,
            stop=self._stop_at is not None and own >= self._stop_at,
            staleness=staleness,
        )
        return self._metered(reply, [message])

    def squared_gap(self, message: Message) -> float:
        """Return the squared distance to the center of a message that moves it, else 0; ``nan`` if it is not finite.

        Of a fragment, to the center's same elements; of a coded message, as numbers.
        """
        if message.codecs and self.center is None:
            return 0.0  # said before a group started again; it is not averaged
        center = self._about(message)
        vectors = coded.opened(message, center)
        squared = 0.0
        if message.kind in ("center", "elastic") and center is not None:
            squared = center.squared_distance(vectors)
            if math.isfinite(squared):
                return squared
        finite = _finite(vectors) if message.finite is None else message.finite
        return min(squared, _LARGEST_SQUARE) if finite else math.nan

    def _about(self, message: Message) -> Center | None:
        """Return the center of the elements that a message is about."""
        return self.center.part(message.slices) if self.center is not None and message.slices else self.center

    def _metered(self, reply: Reply, messages: Sequence[Message]) -> Reply:
        """Return the reply, which goes to each of those who sent the messages."""
        for message in messages:
            told = reply.told(message.group)
            sent = payload_bytes((*told.vectors, *told.group))
            self.meter.count(message.phase, sent=sent, received=payload_bytes(message.vectors))
        return reply

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
        save, self.save = self.save, False
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
        return replace(self._reply(words, messages, codecs), save=save, groups=_means_of_groups(messages))

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


def _finite(vectors: Vectors) -> bool:
    # The sum costs a thirtieth of the test of every element, which is left to sums that overflow.
    return all(math.isfinite(v.sum()) or bool(v.isfinite().all()) for v in vectors)
