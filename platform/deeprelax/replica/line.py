"""A replica's end of a coded exchange; :mod:`deeprelax.exchange.coded` is the center's and has the equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deeprelax.coupling.codec import Codec
from deeprelax.coupling.message import Message, Reply

UNSAID = "unsaid"
"""The name of a checkpoint's vectors that this keeps."""


class Line:
    """Says a replica's vectors in few bytes and understands what is said back.

    Holds two copies of the parameters: what the replica was told, and what it has not said yet.

    Args:
        codec: of the coupling.
        vectors: the weights of each group, for their shapes; messages may carry more vectors, which travel as they are.
    """

    def __init__(self, codec: Codec, vectors: Sequence[Tensor]) -> None:
        self._codec = codec
        self._known = [torch.zeros_like(vector) for vector in vectors]
        self._unsaid = [torch.zeros_like(vector) for vector in vectors]

    def begin(self, vectors: Sequence[Tensor]) -> None:
        """Take the center that this replica was told in full."""
        for known, vector in zip(self._known, vectors, strict=False):
            known.copy_(vector)

    def forget(self) -> None:
        """Drop what is unsaid: it belongs to weights that are given up."""
        for unsaid in self._unsaid:
            unsaid.zero_()

    def says(self, message: Message) -> Message:
        """Return the message as it travels."""
        words = []
        known = self._of(self._known, message)
        for vector, here, unsaid in zip(message.vectors, known, self._of(self._unsaid, message), strict=False):
            words.append(self._codec.say(vector - here if message.kind == "center" else vector, unsaid))
        plain = message.vectors[len(words) :]
        codecs = (self._codec,) * len(words) + (None,) * len(plain)
        return replace(message, vectors=(*words, *plain), codecs=codecs)

    def hears(self, reply: Reply, message: Message) -> Reply:
        """Return the reply in numbers; one that is not coded tells the center in full."""
        if not reply.codecs:
            return reply
        count = len(self._known)
        heard = []
        for word, known in zip(reply.vectors, self._of(self._known, message), strict=False):
            numbers = self._codec.decode(word, known)
            heard.append(known.add_(numbers) if message.kind == "center" else numbers)
        return replace(reply, vectors=(*heard, *reply.vectors[count:]), codecs=())

    @staticmethod
    def _of(vectors: Sequence[Tensor], message: Message) -> Sequence[Tensor]:
        """Return the elements that a message is about."""
        if not message.slices:
            return vectors
        return [vector[begin:end] for vector, (begin, end) in zip(vectors, message.slices, strict=False)]

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs by name; what is known is told again at the start."""
        return {f"{UNSAID}.{i}": unsaid for i, unsaid in enumerate(self._unsaid)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state` returned."""
        for i, unsaid in enumerate(self._unsaid):
            unsaid.copy_(tensors[f"{UNSAID}.{i}"])
