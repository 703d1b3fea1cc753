"""What a vector becomes on its way: fewer bytes, and what is lost is said later."""

from deeprelax.coupling.codec.base import CHUNK, Codec
from deeprelax.coupling.codec.bf16 import Bf16
from deeprelax.coupling.codec.integers import Int4, Int8
from deeprelax.coupling.codec.text import read_codec, write_codec
from deeprelax.coupling.codec.topk import TopK

__all__ = ["CHUNK", "Bf16", "Codec", "Int4", "Int8", "TopK", "read_codec", "write_codec"]
