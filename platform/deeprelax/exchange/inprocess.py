"""Replicas that share one process and take turns: nothing is sent and no thread is needed.

Each replica advances to its next message; when all have spoken the center moves and all hear the reply. The order of
the sums is the replicas' order, so the numbers equal those of the parameter server bit for bit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.meter import Meter, payload_bytes
from deeprelax.exchange.rounds import Rounds

Loop = Generator[Message, Reply, None]


def run_together(replicas: Sequence[Loop], rounds: Rounds, meters: Sequence[Meter] = ()) -> None:
    """Run the loops of all replicas to their end; see :func:`take_turns`."""
    for _ in take_turns(replicas, rounds, meters):
        pass


def take_turns(replicas: Sequence[Loop], rounds: Rounds, meters: Sequence[Meter] = ()) -> Iterator[None]:
    """Advance the loops of all replicas in lockstep around one center, a round a step of the iterator.

    Between two steps every replica waits for the next round, so all that the last one brought (judging, saving) is
    done.

    Args:
        replicas: the loops, in replica order. All must exchange equally often.
        rounds: holds the center; its ``stop`` may be set at any time, from a signal handler too.
        meters: one a replica, to count what would cross a network (nothing, for one replica).
    """
    messages = [next(replica) for replica in replicas]
    while messages:
        reply = rounds.complete(messages)
        if len(messages) > 1:
            for meter, message in zip(meters, messages, strict=bool(meters)):
                meter.bytes_sent += payload_bytes(message.vectors)
                meter.bytes_received += payload_bytes(reply.vectors)
        # Replica 0 comes last: when it judges the center, the others have said how they stand at this exchange.
        answers = [_advance(replica, reply) for replica in reversed(replicas)]
        messages = [answer for answer in reversed(answers) if answer is not None]
        assert len(messages) in (0, len(replicas)), "replicas must exchange equally often"
        yield


def _advance(replica: Loop, reply: Reply) -> Message | None:
    try:
        return replica.send(reply)
    except StopIteration:
        return None
