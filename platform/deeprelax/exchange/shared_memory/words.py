"""Messages and replies as JSON values; floats keep every digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from torch import Tensor

from deeprelax.coupling.codec import read_codec, write_codec
from deeprelax.coupling.message import CenterStep, Codecs, Message, Reply
from deeprelax.errors import ExchangeError, StartAgainError
from deeprelax.exchange.server.actor import ForgottenError
from deeprelax.exchange.server.coordinator import Member
from deeprelax.exchange.shared_memory.channel import Words

_REFUSALS = {kind.__name__: kind for kind in (ExchangeError, StartAgainError, ForgottenError)}


def write_message(member: Member, message: Message) -> Words:
    """Return what a member says, without its vectors."""
    fields = asdict(replace(message, vectors=(), codecs=()))
    return {"member": list(member), "message": fields | {"codecs": _written(message.codecs)}}


def read_message(words: Words, vectors: Sequence[Tensor]) -> tuple[Member, Message]:
    """Return who says what."""
    replica, incarnation = cast("list[Any]", words["member"])
    fields = cast("dict[str, Any]", words["message"])
    steps = tuple(CenterStep(**step) for step in fields["center_steps"])
    fields |= {
        "vectors": tuple(vectors),
        "center_steps": steps,
        "scalars": tuple(fields["scalars"]),
        "codecs": _read(fields["codecs"]),
        "slices": tuple((begin, end) for begin, end in fields["slices"]),
    }
    return Member(replica, incarnation), Message(**fields)


def write_reply(reply: Reply) -> Words:
    """Return what is answered, without its vectors."""
    fields = asdict(replace(reply, vectors=(), codecs=(), group=()))
    return {"reply": fields | {"codecs": _written(reply.codecs)}}


def write_refusal(error: ExchangeError) -> Words:
    """Return an error as an answer."""
    return {"refused": type(error).__name__, "why": str(error)}


def read_reply(words: Words, vectors: Sequence[Tensor], group: Sequence[Tensor]) -> Reply:
    """Return the answer.

    Raises:
        ExchangeError: it is a refusal.
    """
    if "refused" in words:
        raise _REFUSALS[str(words["refused"])](words["why"])
    fields = cast("dict[str, Any]", words["reply"])
    fields |= {
        "vectors": tuple(vectors),
        "group": tuple(group),
        "scalars": tuple(fields["scalars"]),
        "codecs": _read(fields["codecs"]),
    }
    return Reply(**fields)


def _written(codecs: Codecs) -> list[str]:
    return [write_codec(codec) for codec in codecs]


def _read(names: Sequence[str]) -> Codecs:
    return tuple(read_codec(name) for name in names)
