"""What a replica says at an exchange and what it hears back.

The training loop is a generator: it yields a :class:`Message` and is sent a :class:`Reply`. It never learns how the
vectors travel, and an exchange never learns which method runs (the "sans-IO" style of protocol libraries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from deeprelax.coupling.codec import Codec

Kind = Literal["join", "center", "mean", "elastic"]
Phase = Literal["join", "exchange", "evaluation"]
"""What bytes are spent on: to meet, to train, to judge."""
Stage = Literal["whole", "post", "collect"]
"""Whether the replica waits for the reply (``whole``), or goes on (``post``) and asks for it later (``collect``)."""
Slice = tuple[int, int]
"""First element, and the one after the last."""
Codecs = tuple[Codec | None, ...]
"""How each vector is coded; None as it is. Empty: all of them as they are."""


@dataclass(frozen=True, kw_only=True)
class CenterStep:
    """How the center x̄ moves towards the mean m of the messages: one torch-Nesterov step on G = x̄ - m.

    v ← momentum·v + G;  x̄ ← x̄ - lr·(G + momentum·v). With ``lr=1, momentum=0`` the center *is* the mean (local SGD,
    Parle); ``lr=n·α`` is EASGD's elastic mean (Zhang et al. 2015, eq. 6); ``lr=.7, momentum=.9`` is DiLoCo's outer
    step.

    Args:
        lr: step of the center, >= 0; 0 leaves it where it is.
        momentum: in [0, 1).
    """

    lr: float = 1.0
    momentum: float = 0.0

    @property
    def is_mean(self) -> bool:
        """True if the center becomes exactly the mean."""
        return self.lr == 1.0 and self.momentum == 0.0


@dataclass(frozen=True, kw_only=True)
class Message:
    """One replica's part of one exchange.

    Args:
        kind: ``join`` is the first message of a replica (the center becomes the mean of the starts, or, for a newcomer,
            is only read); ``center`` moves the center; ``mean`` averages without touching the center (gradients,
            predictions); ``elastic`` lets this replica alone and the center pull each other, wherever the others are.
        vectors: flat tensors, shapes (P_i,); views of the replica's storage, valid until the reply arrives.
        step: mini-batch steps this replica has made; all members of one round agree on it.
        exchanges: exchanges this replica has completed, likewise.
        center_steps: how the center moves, one rule per vector (``center`` only).
        scalars: numbers that are averaged along with the vectors, in float64.
        codecs: a vector with a codec is uint8, the codec's bytes of the difference to what this replica was told last
            (``center``) or of the vector (``mean``); see :mod:`deeprelax.exchange.coded`.
        slices: which elements of the center's vectors these are, one for each vector here (``center`` only); empty:
            all of them.
        phase: for the count of bytes.
        stage: a ``post`` is answered by :func:`acknowledged` at once, and its vectors are the message's own; the
            ``collect`` that follows it has no vectors and is answered by the reply.
        group: the replicas among which this one also hears the mean; None: none but all.
        score: by which the members are ranked; where it is given, the vectors of the member with the lowest take the
            place of the mean of all (and of the group), the first of them in replica order.
        finite: whether all vectors are, if the transport has looked on its way; None: it has not.
        max_ahead: exchanges that this replica may be ahead of the slowest one; who is farther waits (``elastic`` only).
    """

    kind: Kind
    vectors: tuple[Tensor, ...]
    step: int
    exchanges: int
    center_steps: tuple[CenterStep, ...] = ()
    scalars: tuple[float, ...] = ()
    codecs: Codecs = ()
    slices: tuple[Slice, ...] = ()
    phase: Phase = "exchange"
    stage: Stage = "whole"
    group: int | None = None
    score: float | None = None
    finite: bool | None = None
    max_ahead: int = 0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What every member of a round hears.

    Args:
        vectors: the new center (``join``, ``center``), the mean (``mean``), or the center before it was pulled
            (``elastic``). Read-only and valid until the next
            message: copy from it.
        scalars: the means of the messages' scalars.
        step: mini-batch steps of the run at this round; a newcomer continues from here.
        exchanges: completed exchanges of the run, this one included.
        members: replicas that took part.
        stop: the run was asked to stop: save and return.
        codecs: as in the message; the difference is to what the members were told before.
        group: the mean (or the best) of the member's group, if it has one; as ``vectors``.
        groups: the same of every group, until each member is told its own; see :meth:`told`.
        save: a member is about to leave: save and go on.
        staleness: exchanges of others since this replica's last one (``elastic`` only).
    """

    vectors: tuple[Tensor, ...]
    step: int
    exchanges: int
    scalars: tuple[float, ...] = ()
    members: int = 1
    stop: bool = False
    codecs: Codecs = ()
    save: bool = False
    staleness: int = 0
    group: tuple[Tensor, ...] = ()
    groups: Mapping[int, tuple[Tensor, ...]] = field(default_factory=dict)

    def told(self, group: int | None) -> Reply:
        """Return what the members of a group hear; no group's mean if none was computed."""
        return replace(self, group=() if group is None else self.groups.get(group, ()), groups={})


def acknowledged(message: Message) -> Reply:
    """Return what is heard at once of a message whose reply is collected later."""
    return Reply(vectors=(), step=message.step, exchanges=message.exchanges)
