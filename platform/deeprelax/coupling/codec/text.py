"""The text form of a codec: ``float32``, ``bf16``, ``int8``, ``int4``, ``topk(0.01)``."""

from __future__ import annotations

import re

from deeprelax.coupling.codec.base import Codec
from deeprelax.coupling.codec.bf16 import Bf16
from deeprelax.coupling.codec.integers import Int4, Int8
from deeprelax.coupling.codec.topk import TopK
from deeprelax.errors import ConfigError, nearest

PLAIN = "float32"
_FIXED: dict[str, Codec] = {str(codec): codec for codec in (Bf16(), Int8(), Int4())}
_TOPK = re.compile(r"topk\((?P<fraction>[^()]+)\)")


def read_codec(text: object) -> Codec | None:
    """Return the codec of a text; None for ``float32``, which codes nothing.

    Raises:
        ConfigError: no such codec, or a fraction out of range.
    """
    if text is None or isinstance(text, Codec):
        return text
    name = str(text).replace(" ", "")
    if name == PLAIN:
        return None
    if name in _FIXED:
        return _FIXED[name]
    found = _TOPK.fullmatch(name)
    if found is None:
        known = (PLAIN, *_FIXED, "topk(0.01)")
        raise ConfigError(f"Must be one of {', '.join(known)}.{nearest(name, known)}")
    return TopK(_fraction(found["fraction"]))


def write_codec(codec: Codec | None) -> str:
    """Return the text of a codec."""
    return PLAIN if codec is None else str(codec)


def _fraction(text: str) -> float:
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise ConfigError("Must be topk(FRACTION) with a fraction in (0, 1], such as topk(0.01).")
    return fraction
