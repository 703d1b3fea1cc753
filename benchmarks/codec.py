"""Codecs: encoding and decoding 10M float32 against a plain copy of them.

A copy reads and writes 8 bytes an element. The other rows are of one way: what a replica does with its message (the
difference, the residual and the code) and what it does with the reply, each once in an exchange.
"""

from __future__ import annotations

import torch
from benchmarks.measure import Call, Contenders, How, Row, compare

from deeprelax.coupling.codec import Codec, read_codec

SIZE = 10_000_000
COPY = "copy"
CODECS = ("bf16", "int8", "int4", "topk(0.01)")


def codec_rows(how: How) -> list[Row]:
    """Return the rows of saying and of hearing each codec, the part of float32's bytes in their names."""
    return compare(f"codecs, {SIZE / 1e6:g}M float32, {how.device}", lambda: _contenders(how.device), COPY, how)


def _contenders(device: str) -> Contenders:
    generator = torch.Generator(device).manual_seed(0)
    vector = torch.randn(SIZE, generator=generator, device=device)
    spare = torch.empty_like(vector)
    contenders: dict[str, Call] = {COPY: lambda: spare.copy_(vector)}
    for text in CODECS:
        codec = read_codec(text)
        assert codec is not None
        part = codec.nbytes(SIZE) / (vector.element_size() * SIZE)
        contenders |= {f"{text} ({part:.3f}), {way}": call for way, call in _ways(codec, vector, spare).items()}
    return contenders


def _ways(codec: Codec, vector: torch.Tensor, known: torch.Tensor) -> dict[str, Call]:
    unsaid = torch.zeros_like(vector)
    word = codec.encode(vector)
    return {
        "say": lambda: codec.say(vector - known, unsaid),
        "encode": lambda: codec.encode(vector),
        "decode": lambda: codec.decode(word, vector),
    }
