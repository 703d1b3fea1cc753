"""What a server of a virtual run must do next, kept apart from the coordinator and compared with it at every event."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from deeprelax.coupling.message import CenterStep, Message
from deeprelax.exchange.center import Center, mean_of
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.coordinator import Answer, Member, Row

RULE = (CenterStep(lr=0.7, momentum=0.5),)


@dataclass
class Ledger:
    """What happened in a run.

    Attributes:
        fates: how many messages were heard, and how many of them were averaged, …
        events: how often a replica joined, was lost, …
        longest_wait_s: from a message's arrival at the server to its answer.
        longest_silence_s: while somebody waited and no message came and nobody joined or was lost.
        largest: the most entries that the coordinator's containers held together.
    """

    fates: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    longest_wait_s: float = 0.0
    longest_silence_s: float = 0.0
    largest: int = 0


class Heard(NamedTuple):
    """A message that the server has heard."""

    member: Member
    message: Message
    turn: int


class Record:
    """Who lives, who has spoken in the open round and what, and what the center must be.

    Args:
        rounds: of the server, as it starts.
        replicas: n.
        ledger: of the run.
    """

    def __init__(self, rounds: Rounds, replicas: int, ledger: Ledger) -> None:
        self._rounds = rounds
        self._replicas = replicas
        self._ledger = ledger
        self._said: dict[int, Heard] = {}
        self._live: set[int] = set()
        self._begun = False
        self._fresh = rounds.center is None
        self._expected = Center(())

    def take(self, events: Iterable[Row]) -> None:
        """Follow the members."""
        for row in events:
            event, replica = str(row["event"]), int(str(row["replica"]))
            self._ledger.events[event] += 1
            if event in {"joined", "rejoined"}:
                self._live.add(replica)
            elif event in {"lost", "quarantined", "finished"}:
                self._live.discard(replica)

    def hear(self, heard: Heard, *, told: bool) -> None:
        """Keep what was heard until its round closes; of a replica only what its newest life said last.

        Args:
            heard: the message.
            told: its sender was told the center instead.
        """
        replica = heard.member.replica
        self._ledger.fates["heard"] += 1
        if replica in self._said and (not told or self._said[replica].member != heard.member):
            del self._said[replica]
            self._ledger.fates["superseded"] += 1
        if told:
            self._ledger.fates["told the center"] += 1
        else:
            self._said[replica] = heard

    def close(self, answer: Answer, before: int) -> None:
        """Check a round: all who live have spoken, and what was said in it, and nothing else, moved the center.

        Args:
            answer: of the round.
            before: exchanges of the run before it closed.
        """
        said = [self._said[replica] for replica in sorted(self._said)]
        reply = answer.reply
        assert list(answer.to) == [heard.member for heard in said]
        assert self._live <= self._said.keys(), "somebody who lives was left out"
        assert reply.members == len(said)
        assert reply.exchanges == self._rounds.exchanges == (before + 1 if self._begun else before)
        assert len(said) == self._replicas or not self._fresh, "a run begins with all"
        assert self._rounds.center is not None
        if self._begun:
            self._expected.advance(mean_of([heard.message.vectors for heard in said]), RULE)
            assert torch.equal(reply.vectors[0], self._expected.vectors[0])
            assert all(heard.message.exchanges == before for heard in said)
        else:
            self._expected = Center.restored(self._rounds.center.state())
        assert bool(torch.isfinite(reply.vectors[0]).all()), "the center is not finite"
        self._begun, self._fresh = True, False
        self._ledger.fates["averaged"] += len(said)
        self._said.clear()

    def forget(self) -> None:
        """Count what goes with a server that ends."""
        self._ledger.fates["gone with the server"] += len(self._said)


def entries(value: object) -> int:
    """Return how many entries nested dictionaries, lists, sets and queues hold."""
    if isinstance(value, dict):
        return sum(1 + entries(inner) for inner in value.values())
    return len(value) if isinstance(value, list | set | deque) else 0
