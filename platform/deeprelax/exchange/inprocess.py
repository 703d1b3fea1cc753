"""Replicas that share one process and take turns: nothing is sent and no thread is needed.

Each replica advances to its next message; when all have spoken the center moves and all hear the reply. The order of
the sums is the replicas' order, so the numbers equal those of the parameter server bit for bit. Only those who pull the
center alone (``elastic`` messages) do so in an order drawn for each round, where a server takes them as they come.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from deeprelax.coupling.message import Message, Reply, acknowledged
from deeprelax.exchange.meter import Meter, payload_bytes
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.gradients import Ask
from deeprelax.replica.loop import AskingLoop

Loop = Generator[Message, Reply, None]


def run_together(replicas: Sequence[Loop], rounds: Rounds, meters: Sequence[Meter] = ()) -> None:
    """Run the loops of all replicas to their end; see :func:`take_turns`."""
    for _ in take_turns(replicas, rounds, meters):
        pass


def take_turns(
    replicas: Sequence[Loop | AskingLoop], rounds: Rounds, meters: Sequence[Meter] = ()
) -> Iterator[Sequence[Ask]]:
    """Advance the loops of all replicas in lockstep around one center.

    The iterator yields nothing asked, ``()``, after every round: all replicas wait for the next one, so all that the
    last one brought (judging, saving) is done. Where loops ask for gradients, it yields the asks of all replicas that
    wait for one; they must be answered before it goes on.

    Args:
        replicas: the loops, in replica order. All must exchange equally often.
        rounds: holds the center; its ``stop`` may be set at any time, from a signal handler too.
        meters: one a replica, to count what would cross a network (nothing, for one replica).
    """
    messages = yield from _answered(replicas, [_advance(replica, None) for replica in replicas])
    posted: list[Reply] = []
    while messages:
        stage = messages[0].stage
        replies = rounds.complete_all(messages) if stage != "collect" else posted
        if len(messages) > 1 and stage != "collect":
            for meter, message, reply in zip(meters, messages, replies, strict=bool(meters)):
                told = reply.told(message.group)
                received = payload_bytes((*told.vectors, *told.group))
                meter.count(message.phase, sent=payload_bytes(message.vectors), received=received)
        if stage == "post":
            posted = replies
        heard = [
            acknowledged(message) if stage == "post" else reply.told(message.group)
            for message, reply in zip(messages, replies, strict=True)
        ]
        # Replica 0 comes last: when it judges the center, the others have said how they stand at this exchange.
        said = [_advance(replica, own) for replica, own in zip(reversed(replicas), reversed(heard), strict=True)]
        messages = yield from _answered(replicas, said[::-1])
        assert len(messages) in (0, len(replicas)), "replicas must exchange equally often"
        yield ()


def _answered(
    replicas: Sequence[Loop | AskingLoop], said: list[Message | Ask | None]
) -> Generator[Sequence[Ask], None, list[Message]]:
    """Have asks answered until every loop has a message or has ended; return the messages."""
    while asking := [a for a, word in enumerate(said) if isinstance(word, Ask)]:
        yield tuple(word for word in said if isinstance(word, Ask))
        for a in reversed(asking):
            said[a] = _advance(replicas[a], None)
    return [word for word in said if isinstance(word, Message)]


def _advance(replica: Loop | AskingLoop, reply: Reply | None) -> Message | Ask | None:
    try:
        return replica.send(reply)  # type: ignore[arg-type]  # nothing is sent to a loop that has not begun
    except StopIteration:
        return None
