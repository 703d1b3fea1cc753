"""Seeds of independent random streams, derived from one seed and the stream's name."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, *stream: str | int) -> int:
    """Return the 63-bit seed of a named stream such as ``(7, "data", replica, data_pass)``; equal on every machine."""
    text = repr((seed, *stream)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
