"""Who takes part in a round and when it closes: the server's rules without transport, threads or waiting.

A replica's first message is ``join``, and the first round waits for the joins of all n, or of the fewest that a run
which may grow starts with. From then on a round closes
when every *live* member has spoken; it is averaged in replica order, whatever the order of arrival. A member known to
be lost is dropped at once, and one that the round waits for when its lease ends: a loss costs the others at most one
lease, once.

A newcomer (a replacement, or a member that was dropped although it lives) is told the current center, step and
exchanges at once and is a live member of the round now open: the others wait for it at most the one period it has to
make up. If its message belongs to a round that has closed since, it hears the same; the reply then has other
``exchanges`` than ``message.exchanges + 1``, and the replica goes on from there.

With ``elastic=False`` (data-parallel SGD) nobody is dropped. A join in a run under way means that the whole group
starts again: the round is forgotten, and once all n have joined the run continues at their position with their mean as
center.

Weights that are not finite, or absurdly far from the center (:mod:`deeprelax.exchange.server.quarantine`), are refused:
their member is dropped and hears so, the former at once and the latter when the round closes, and may come back as a
newcomer. A run in which all members send such weights, or that had to refuse more than ``Rules.max_refused``, has
diverged.

Who pulls the center alone (``elastic`` messages) is answered at once, in the order of arrival, unless it is farther
ahead of the slowest than it allows; then it waits. :meth:`Coordinator.released` returns who goes on next.

A process that was replaced but still lives (a network that was cut), or that has finished, is not heard any more,
whatever it says and however late that arrives: ``Coordinator.outdated``.

A server that came back from a checkpoint knows nobody, and whoever speaks to it in the middle of a run is a newcomer:
it hears the center of the checkpoint at once and goes on from there.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from deeprelax.errors import DivergedError, ExchangeError
from deeprelax.exchange.server.pulls import Pull, Pulls
from deeprelax.exchange.server.quarantine import refused

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
        refused: the members whose weights were refused, in replica order; they hear no reply.
    """

    reply: Reply
    to: tuple[Member, ...]
    groups: tuple[int | None, ...]
    averaged: bool = True
    restarted: bool = False
    refused: tuple[Member, ...] = ()

    def of_group(self, group: int | None) -> list[Member]:
        """Return its members that hear the reply."""
        return [member for member, own in zip(self.to, self.groups, strict=True) if own == group]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a run treats its members.

    Args:
        replicas: n, the most.
        start: replicas 0, 1, … that the first round waits for; None: all.
        elastic: a lost replica is done without until its replacement is there; otherwise the whole group starts again.
        lease_s: see :data:`LEASE_S`.
        round_timeout_s: see :data:`ROUND_TIMEOUT_S`.
        max_refused: times weights are refused before the run counts as diverged.
    """

    replicas: int
    start: int | None = None
    elastic: bool = True
    max_refused: int = 3
    lease_s: float = LEASE_S
    round_timeout_s: float = ROUND_TIMEOUT_S

    @property
    def fewest(self) -> int:
        """Return how many replicas the first round waits for."""
        return self.replicas if self.start is None else self.start


class Coordinator:
    """Membership and rounds of one run.

    Args:
        rules: how members are treated.
        rounds: holds the center and the arithmetic.
        clock: seconds, monotonic.

    Attributes:
        events: who joined, was lost, rejoined, was quarantined or finished, and when; the caller takes them away.
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
        self._leaving: set[Member] = set()
        self._pulls = Pulls()
        self._gaps: dict[int, float] = {}
        self._gaps_before: dict[int, float] = {}
        self._refused = 0

    def hear(self, member: Member, message: Message, elsewhere: float = 0.0) -> Answer | None:
        """Take a message of a member that is not :meth:`outdated`; return whom it lets go on, if anyone.

        Args:
            member: who says it.
            message: what it says, in this server's slice.
            elsewhere: its squared distance to the center in the slices of the other servers.

        Raises:
            DivergedError: too many weights had to be refused.
            ExchangeError: the members of the round are not at the same point of the run.
        """
        assert not self.outdated(member), "an outdated member is told to end"
        if self._live.get(member.replica) != member.incarnation:
            self._admit(member, message)
        self.beat(member)
        # Ahead of the run can be who heard a reply while it told a server without memory what it had heard before.
        late = message.kind == "join" or message.exchanges != self.rounds.exchanges
        if message.kind == "elastic":
            self._pulls.add(Pull(member, message, self._gap(message, elsewhere)))
            return self.released()
        if self._begun and late:
            return self._current(member, message)
        gap = self._gap(message, elsewhere) if self._begun and self.rules.elastic else 0.0
        if math.isnan(gap):
            self._turn_away({member.replica}, set(self._live))  # the next look closes a round that waited for it alone
            return replace(self._current(member, message), refused=(member,))
        if not self._said:
            self._opened = self._clock()
        self._said[member.replica] = (member, message)
        self._gaps[member.replica] = gap
        return self._closed()

    def resume(self, members: Iterable[Member]) -> None:
        """Go on with a run after the server has lost its memory of it.

        Args:
            members: who still takes part; nobody without elasticity, where the whole group starts again.
        """
        self._begun = self.rounds.center is not None or not self.rules.elastic
        for member in members if self._begun else ():
            self._live[member.replica] = self._joined[member.replica] = member.incarnation
            self._pulls.joined(member.replica, self.rounds.exchanges)
            self.beat(member)
        position: Row = {"step": self.rounds.step, "exchanges": self.rounds.exchanges}
        self.events.append({"event": "server_restarted", "time": time.time(), **position})

    def knows(self, member: Member) -> bool:
        """True if the member's replica has joined."""
        return member.replica in self._joined

    def outdated(self, member: Member) -> bool:
        """True if another process has joined in this member's place, or it has finished, so that it must end."""
        return member.incarnation in self._ended.get(member.replica, ())

    def beat(self, member: Member) -> None:
        """Renew a member's lease."""
        if self._live.get(member.replica) == member.incarnation:
            self._lease_end[member.replica] = self._clock() + self.rules.lease_s

    def announce(self, member: Member) -> None:
        """Let all members save at the next exchange, because this one has been told to end."""
        if self._live.get(member.replica) == member.incarnation and member not in self._leaving:
            self._leaving.add(member)
            self.rounds.save = True
            self._note("leaving", member.replica)

    def stray(self, member: Member) -> Answer | None:
        """Turn a member away whose loss is not finite; return whom that lets go on, if anyone.

        Raises:
            DivergedError: nobody else is left, or too many had to be turned away.
        """
        if self._live.get(member.replica) == member.incarnation:
            self._turn_away({member.replica}, set(self._live))
        return self._closed()

    def lose(self, replica: int) -> Answer | None:
        """Drop a replica whose process is known to have ended; return whom that lets go on, if anyone.

        What it has said in this round counts.
        """
        if replica not in self._live:
            return None
        self._drop(replica, "lost")
        return self._closed()

    def leave(self, member: Member) -> Answer | None:
        """Let go of a member that has finished or was told to end; return whom that lets go on, if anyone."""
        if self._live.get(member.replica) != member.incarnation:
            return None
        self._drop(member.replica, "left" if member in self._leaving else "finished")
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
        spoken = self._said.keys() | self._pulls.waiting
        for replica in sorted(self._live):
            self._lease_end[replica] += deaf_s
            awaited = self._begun and self.rules.elastic and replica not in spoken
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

    def released(self) -> Answer | None:
        """Answer the next of those who pull the center alone and are not too far ahead; there may be another one."""
        pull = self._pulls.take(self._live)
        if pull is None:
            return None
        member, message, gap = pull
        gaps = {a: before for a, before in self._gaps_before.items() if a in self._live} | {member.replica: gap}
        if self._turn_away({member.replica} & refused(gaps, self._gaps_before), set(self._live)):
            return replace(self._current(member, message), to=(), groups=(), refused=(member,))
        self._gaps_before[member.replica] = gap
        reply = replace(self.rounds.pull(message, member.replica), save=member in self._leaving)
        return Answer(reply=reply, to=(member,), groups=(None,))

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
        self._pulls.joined(replica, self.rounds.exchanges if self._begun else message.exchanges)
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
        self._live, self._said = {}, {}
        self._begun, self._restarted = False, True
        self.rounds.center = None
        self.rounds.step, self.rounds.exchanges = message.step, message.exchanges

    def _current(self, member: Member, message: Message) -> Answer:
        reply = self.rounds.complete([replace(message, kind="join")])
        return Answer(reply=reply, to=(member,), groups=(None,), averaged=False)

    def _closed(self) -> Answer | None:
        """Close the round if all it waits for have spoken."""
        awaited = self._awaited()
        if not awaited or not awaited <= self._said.keys():
            return None
        out = self._refuse_outliers()
        spoken = [self._said[replica] for replica in sorted(self._said.keys() - out)]
        turned_away = tuple(self._said[replica][0] for replica in sorted(out))
        self._said = {}
        messages = [message for _, message in spoken]
        reply = self.rounds.complete(messages if self._begun else self._joins(messages))
        answer = Answer(
            reply=reply,
            to=tuple(member for member, _ in spoken),
            groups=tuple(message.group for message in messages),
            restarted=self._restarted,
            refused=turned_away,
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

    def _gap(self, message: Message, elsewhere: float) -> float:
        """Return the distance of a message to the center; ``nan`` if it is not finite."""
        return math.sqrt(self.rounds.squared_gap(message) + elsewhere)

    def _refuse_outliers(self) -> set[int]:
        """Drop the members of the round whose weights are refused, and return them."""
        gaps = {replica: gap for replica, gap in self._gaps.items() if replica in self._said}
        self._gaps = {}
        out = refused(gaps, self._gaps_before) if self._begun else set()
        self._turn_away(out, set(self._said))
        self._gaps_before |= {replica: gap for replica, gap in gaps.items() if replica not in out}
        return out

    def _turn_away(self, out: set[int], of: set[int]) -> bool:
        """Drop the members whose weights are refused, if any; ``of`` all whose are known."""
        self._refused += len(out)
        if out and (out == of or self._refused > self.rules.max_refused):
            raise DivergedError(
                f"The weights of the replicas {sorted(out)} are not finite, or far from all others, at exchange "
                f"{self.rounds.exchanges + 1}; {self._refused} had to be refused so far. Use a smaller lr, a softer "
                "spring (larger gamma, rho), or clip_norm."
            )
        for replica in sorted(out):
            self._gaps_before.pop(replica, None)
            if replica in self._live:  # it may have died since it spoke
                self._drop(replica, "quarantined")
        return bool(out)

    def _awaited(self) -> set[int]:
        under_way = self._begun or any(message.kind != "join" for _, message in self._said.values())
        return set(self._live) if under_way and self.rules.elastic else set(range(self.rules.fewest))

    def _drop(self, replica: int, event: str) -> None:
        del self._live[replica]
        self._note(event, replica)

    def _note(self, event: str, replica: int) -> None:
        position: Row = {"step": self.rounds.step, "exchanges": self.rounds.exchanges}
        self.events.append({"event": event, "replica": replica, "time": time.time(), **position})
