"""Logs of many lines, thinned out before they are parsed: a million numbers open as fast as a thousand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

Row = dict[str, object]


def read_rows(log: Path, most: int, block: int = 1) -> list[Row]:
    """Return at most about ``most`` lines of a log of JSON objects, evenly spread, the first and the last among them.

    Args:
        log: the file; nothing if it is not there.
        most: lines to return, >= 2.
        block: lines that belong together, such as those of all replicas at one exchange: kept or left out as one.
    """
    try:
        lines = log.read_bytes().split(b"\n")
    except OSError:
        return []
    del lines[-1]  # empty, or still being written
    return [json.loads(line) for line in thinned(lines, most, block)]


def thinned(lines: Sequence[bytes], most: int, block: int) -> list[bytes]:
    """Return blocks of ``block`` lines, evenly spread, the first and the last among them; see :func:`read_rows`."""
    if len(lines) <= most:
        return list(lines)
    blocks = -(-len(lines) // block)
    kept = max(2, most // block)
    chosen = sorted({round(i * (blocks - 1) / (kept - 1)) for i in range(kept)})
    return [line for i in chosen for line in lines[i * block : (i + 1) * block]]
