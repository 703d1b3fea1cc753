"""Numbers as people read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def number(value: object) -> str:
    """Return a number with four digits; other things as they are."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size(value: object) -> str:
    """Return bytes with a unit."""
    if not isinstance(value, int | float):
        return "–"
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def duration(value: object) -> str:
    """Return seconds with a unit."""
    if not isinstance(value, int | float):
        return "–"
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def ago(moment: float) -> str:
    """Return how long ago a time was."""
    return f"{duration(max(0.0, time.time() - moment))} ago"


FILTERS: Mapping[str, Callable[..., str]] = {"number": number, "size": size, "duration": duration, "ago": ago}
