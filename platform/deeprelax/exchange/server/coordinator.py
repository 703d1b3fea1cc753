"""Who takes part in a round and when it closes: the server's rules without transport, threads or waiting.

A replica's first message is ``join``, and the first round waits for the joins of all n. From then on a round closes
when every *live* member has spoken; it is averaged in replica order, whatever the order of arrival. A member known to
be lost is dropped at once, and one that the round waits for when its lease ends: a loss costs the others at most one
lease, once.

A newcomer (a replacement, or a member that was dropped although it lives) is told the current center, step and
exchanges at once and is a live member of the round now open: the others wait for it at most the one period it has to
make up. If its message belongs to a round that has closed since, it hears the same; the reply then has other
``exchanges`` than ``message.exchanges + 1``, and the replica goes on from there. So does one whose weights are not
finite: its message counts for nothing, and the round now open does without it, so that one that diverges again and
again cannot stop the others.

With ``elastic=False`` (data-parallel SGD) nobody is dropped. A join in a run under way means that the whole group
starts again: the round is forgotten, and once all n have joined the run continues at their position with their mean as
center.

A process that was replaced but still lives (a network that was cut), or that has finished, is not heard any more,
whatever it says and however late that arrives: ``Coordinator.outdated``.

A server that came back from a checkpoint knows nobody, and whoever speaks to it in the middle of a run is a newcomer:
it hears the center of the checkpoint at once and goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from deeprelax.errors import ExchangeError

if TYPE_CHECKING:
    from deeprelax.coupling.message import Message, Reply
    from deeprelax.exchange.rounds import Rounds

LEASE_S = 5.0
"""Seconds without a heartbeat after which a member that others wait for is dropped.

The death of a process is known sooner, from Ray. This is for one that hangs or is cut off, and long enough that one
starved of CPU is not dropped: that would change the run's numbers.
"""

ROUND_TIMEOUT_S = 1800.0
"""Seconds a round may stay open: for members that live but do not speak, at the start for replicas that do not join."""

TICK_S = 0.25
"""Seconds between two looks at the leases."""

REMEMBERED_LIVES = 16
"""Ended lives of one replica whose late messages are recognized; older ones cannot be on their way any more."""

Row = dict[str, object]
"""What replicas and server tell the driver: a flat dictionary of JSON values."""


class Member(NamedTuple):
    """One life of one replica; a replacement has another incarnation."""

    replica: int
    incarnation: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply and who hears it.

    Args:
        reply: the reply; its vectors are the center's own storage, valid until the next call.
        to: the members that hear it, in replica order.
        groups: of each of them; see :attr:`Message.group`.
        averaged: they took part in a round; otherwise they only read the center.
        restarted: the center was made anew by this round.
    """

    reply: Reply
    to: tuple[Member, ...]
    groups: tuple[int | None, ...]
    averaged: bool = True
    restarted: bool = False

    def of_group(self, group: int | None) -> list[Member]:
        """Return its members that hear the reply."""
        return [member for member, own in zip(self.to, self.groups, strict=True) if own == group]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a run treats its members.

    Args:
        replicas: n.
        elastic: a lost replica is done without until its replacement is there; otherwise the whole group starts again.
        lease_s: see :data:`LEASE_S`.
        round_timeout_s: see :data:`ROUND_TIMEOUT_S`.
    """

    replicas: int
    elastic: bool = True
    lease_s: float = LEASE_S
    round_timeout_s: float = ROUND_TIMEOUT_S


class Coordinator:
    """Membership and rounds of one run.

    Args:
        rules: how members are treated.
        rounds: holds the center and the arithmetic.
        clock: seconds, monotonic.

    Attributes:
        events: who joined, was lost, rejoined, was refused or finished, and when; the caller takes them away.
    """

    def __init__(self, rules: Rules, rounds: Rounds, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules = rules
        self.rounds = rounds
        self.events: list[Row] = []
        self._clock = clock
        self._looked = clock()
        self._opened = 0.0
        self._begun = False
        self._restarted = False
        self._joined: dict[int, str] = {}
        self._ended: dict[int, deque[str]] = {}
        self._live: dict[int, str] = {}
        self._lease_end: dict[int, float] = {}
        self._said: dict[int, tuple[Member, Message]] = {}
        self._excused: set[int] = set()

    def hear(self, member: Member, message: Message, *, finite: bool = True) -> Answer | None:
        """Take a message of a member that is not :meth:`outdated`; return whom it lets go on, if anyone.

        Args:
            member: who speaks.
            message: what it says, or this server's part of it.
            finite: whether the parts of other servers are finite.

        Raises:
            ExchangeError: the members of the round are not at the same point of the run.
        """
        assert not self.outdated(member), "an outdated member is told to end"
        if self._live.get(member.replica) != member.incarnation:
            self._admit(member, message)
        self.beat(member)
        elsewhere = message.kind == "join" or message.exchanges != self.rounds.exchanges
        if self._begun and (elsewhere or self._refused(member, finite and self.rounds.finite(message))):
            return self._current(member, message)
        if not self._said:
            self._opened = self._clock()
        self._said[member.replica] = (member, message)
        self._excused.discard(member.replica)
        return self._closed()

    def outdated(self, member: Member) -> bool:
        """True if another process has joined in this member's place, or it has finished, so that it must end."""
        return member.incarnation in self._ended.get(member.replica, ())

    def beat(self, member: Member) -> None:
        """Renew a member's lease."""
        if self._live.get(member.replica) == member.incarnation:
            self._lease_end[member.replica] = self._clock() + self.rules.lease_s

    def lose(self, replica: int) -> Answer | None:
        """Drop a replica whose process is known to have ended; return whom that lets go on, if anyone.

        What it has said in this round counts.
        """
        if replica not in self._live:
            return None
        self._drop(replica, "lost")
        return self._closed()

    def leave(self, member: Member) -> Answer | None:
        """Let go of a member that has finished; return whom that lets go on, if anyone."""
        if self._live.get(member.replica) != member.incarnation:
            return None
        self._drop(member.replica, "finished")
        self._end(member.replica)
        return self._closed()

    def expire(self) -> Answer | None:
        """Drop the members the round waits for whose lease has ended; return whom that lets go on, if anyone.

        Raises:
            ExchangeError: the round has been open for ``round_timeout_s``.
        """
        now = self._clock()
        # While the server itself was busy or stopped it could hear no heartbeat: that time is nobody's fault.
        deaf_s = max(0.0, now - self._looked - 2 * TICK_S)
        self._looked = now
        for replica in sorted(self._live):
            self._lease_end[replica] += deaf_s
            awaited = self._begun and self.rules.elastic and replica not in self._said
            if awaited and self._lease_end[replica] < now:
                self._drop(replica, "lost")
        answer = self._closed()
        if self._said and now - self._opened > self.rules.round_timeout_s:
            missing = sorted(self._awaited() - self._said.keys())
            timeout = f"round_timeout_s={self.rules.round_timeout_s:g}"
            raise ExchangeError(
                f"Exchange {self.rounds.exchanges} has waited {timeout} seconds for the replicas {missing}."
                " They hang, or they need longer: give a larger round_timeout_s."
            )
        return answer

    def _admit(self, member: Member, message: Message) -> None:
        replica = member.replica
        if replica in self._live:
            self._drop(replica, "lost")
        if self._joined.get(replica) != member.incarnation:
            self._said.pop(replica, None)
            self._end(replica)
        if self._begun and not self.rules.elastic:
            self._restart(message)
            self._note("restarted", replica)
        self._note("rejoined" if replica in self._joined else "joined", replica)
        self._live[replica] = self._joined[replica] = member.incarnation

    def _end(self, replica: int) -> None:
        """Hear no more of a replica's present life, if it has one."""
        lives = self._ended.setdefault(replica, deque(maxlen=REMEMBERED_LIVES))
        if replica in self._joined and self._joined[replica] not in lives:
            lives.append(self._joined[replica])

    def _restart(self, message: Message) -> None:
        for replica in self._joined:
            self._end(replica)
        self._live, self._said, self._excused = {}, {}, set()
        self._begun, self._restarted = False, True
        self.rounds.center = None
        self.rounds.step, self.rounds.exchanges = message.step, message.exchanges

    def _refused(self, member: Member, finite: bool) -> bool:
        if finite or not self.rules.elastic:
            return False
        self._note("refused", member.replica)
        self._excused.add(member.replica)  # if the others waited for nobody else, the next look closes their round
        return True

    def _current(self, member: Member, message: Message) -> Answer:
        reply = self.rounds.complete([replace(message, kind="join")])
        return Answer(reply=reply, to=(member,), groups=(None,), averaged=False)

    def _closed(self) -> Answer | None:
        """Close the round if all it waits for have spoken."""
        awaited = self._awaited()
        if not awaited or not awaited <= self._said.keys():
            return None
        spoken = [self._said[replica] for replica in sorted(self._said)]
        self._said, self._excused = {}, set()
        messages = [message for _, message in spoken]
        reply = self.rounds.complete(messages if self._begun else self._joins(messages))
        answer = Answer(
            reply=reply,
            to=tuple(member for member, _ in spoken),
            groups=tuple(message.group for message in messages),
            restarted=self._restarted,
        )
        self._begun, self._restarted = True, False
        return answer

    def _joins(self, messages: list[Message]) -> list[Message]:
        """Return what the members say in the first round, as joins at the center's position if some are elsewhere.

        Raises:
            ExchangeError: they are in the middle of a run, and there is no center to go back to.
        """
        if all(message.kind == "join" for message in messages):
            return messages
        if self.rounds.center is None:
            raise ExchangeError("The server has lost its center before the first checkpoint. Start the run again.")
        step, exchanges = self.rounds.step, self.rounds.exchanges
        return [replace(message, kind="join", step=step, exchanges=exchanges, scalars=()) for message in messages]

    def _awaited(self) -> set[int]:
        under_way = self._begun or any(message.kind != "join" for _, message in self._said.values())
        if under_way and self.rules.elastic:
            return self._live.keys() - self._excused
        return set(range(self.rules.replicas))

    def _drop(self, replica: int, event: str) -> None:
        del self._live[replica]
        self._note(event, replica)

    def _note(self, event: str, replica: int) -> None:
        position: Row = {"step": self.rounds.step, "exchanges": self.rounds.exchanges}
        self.events.append({"event": event, "replica": replica, "time": time.time(), **position})
