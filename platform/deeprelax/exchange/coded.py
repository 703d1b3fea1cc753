"""The center's end of a coded exchange; :class:`deeprelax.replica.line.Line` is the replica's.

Equations (C what a codec makes of a vector, r the center as the replicas know it, q^a what replica a sends):
    up, ``center``    q^a = C(v^a - r + e^a);  e^a ← v^a - r + e^a - q^a;  mean = x̄ + mean_a q^a
    down, ``center``  Q = C(x̄ - r);  r ← r + Q, on the server and on every replica; x̄ has moved by the coupling's rule
    up, ``mean``      q^a = C(v^a + e^a);  e^a ← v^a + e^a - q^a
    down, ``mean``    Q = C(mean_a q^a + E);  E ← mean_a q^a + E - Q

The residual e^a stays with the sender: over time the sum of what was sent is the sum of what was to be sent, within one
quantum. The center's residual is x̄ - r itself, so it needs no memory of its own; messages count from x̄, or what is
left of it would be lost wherever the center becomes the mean. A newcomer is told r, in full.

References: Seide et al. 2014, 1-bit stochastic gradient descent (error feedback); Karimireddy et al. 2019,
arXiv:1901.09847; Tang et al. 2019, DoubleSqueeze, arXiv:1905.05957 (both directions).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deeprelax.coupling.codec import Codec
from deeprelax.coupling.message import Message
from deeprelax.exchange.center import Center


def opened(message: Message, center: Center | None) -> Sequence[Tensor]:
    """Return the vectors of a message as numbers: what it says, from the center on (``center``)."""
    if not message.codecs:
        return message.vectors
    assert center is not None, "replicas join before they exchange"
    said = []
    for vector, codec, here in zip(message.vectors, message.codecs, center.vectors, strict=True):
        if codec is None:
            said.append(vector)
            continue
        difference = codec.decode(vector, here)
        said.append(difference.add_(here) if message.kind == "center" else difference)
    return said


def told(center: Center, codecs: Sequence[Codec | None]) -> list[Tensor]:
    """Return what the replicas are told of a center that has moved; from then on they know it."""
    words = []
    for here, known, codec in zip(center.vectors, center.known, codecs, strict=True):
        if codec is None:
            known.copy_(here)
            words.append(here)
            continue
        word = codec.encode(torch.sub(here, known))
        known.add_(codec.decode(word, known))
        words.append(word)
    return words


def averaged(center: Center, mean: Sequence[Tensor], codecs: Sequence[Codec | None]) -> list[Tensor]:
    """Return what the replicas are told of a mean; what is left is told with the next one."""
    if not center.unsaid:
        center.unsaid = [torch.zeros_like(vector) for vector in mean]
    return [
        vector if codec is None else codec.say(vector, unsaid)
        for vector, unsaid, codec in zip(mean, center.unsaid, codecs, strict=True)
    ]
