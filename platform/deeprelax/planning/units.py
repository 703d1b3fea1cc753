"""Links, rates and durations as people write them: ``100Mbit:20ms``, ``1GB/s``, ``0.4s``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from deeprelax.errors import ConfigError, nearest

_BITS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
# Bytes per second of one unit, spelled as the unit is; a trailing "/s" or "ps" is taken off before.
_RATES = {name: bits / 8 for name, bits in _BITS.items()} | _BYTES
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"^\s*([-+0-9.eE]*[0-9.])\s*([A-Za-zµ]*)\s*$")


@dataclass(frozen=True, kw_only=True)
class Link:
    """The port of one node, the same in both directions at once.

    Args:
        bytes_per_s: what crosses it in one direction, headers included; > 0, ``inf`` allowed.
        latency_s: seconds from one node to another, one way, >= 0.
    """

    bytes_per_s: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.bytes_per_s > 0 or not 0 <= self.latency_s < math.inf:
            raise ConfigError(f"Invalid {self}. Must have bytes_per_s > 0 and latency_s >= 0.")


def read_link(text: str) -> Link:
    """Return the link written as ``RATE`` or ``RATE:LATENCY``; without a latency it is 0.

    Raises:
        ConfigError: it is malformed; the message shows what is meant.

    Example:
        >>> read_link("100Mbit:20ms")
        Link(bytes_per_s=12500000.0, latency_s=0.02)
    """
    rate, colon, latency = text.partition(":")
    try:
        return Link(bytes_per_s=read_rate(rate), latency_s=read_seconds(latency) if colon else 0.0)
    except ConfigError as error:
        raise ConfigError(f"Invalid link {text!r}. Must be RATE:LATENCY, such as 100Mbit:20ms. {error}") from None


def read_rate(text: str) -> float:
    """Return bytes per second.

    Raises:
        ConfigError: the text is no positive rate with a unit.

    Example:
        >>> read_rate("10Gbit"), read_rate("1GB/s"), read_rate("100 Mbps")
        (1250000000.0, 1000000000.0, 12500000.0)
    """
    plain = re.sub(r"(?<=[A-Za-z])/s\s*$", "", text)
    plain = re.sub(r"(?<=[kMGT])bps\s*$|(?<=\d)\s*bps\s*$", "bit", plain)
    return _quantity(plain, text, _RATES, "a rate such as 100Mbit, 10Gbit or 1GB/s")


def read_seconds(text: str) -> float:
    """Return seconds.

    Raises:
        ConfigError: the text is no duration with a unit.

    Example:
        >>> read_seconds("20ms"), read_seconds("0.4s")
        (0.02, 0.4)
    """
    return _quantity(text, text, _SECONDS, "a duration such as 20ms, 0.4s or 2min", zero=True)


def _quantity(plain: str, text: str, units: dict[str, float], what: str, *, zero: bool = False) -> float:
    found = _QUANTITY.match(plain)
    number = _number(found[1]) if found else None
    if found is None or number is None:
        raise ConfigError(f"Invalid {text!r}. Must be {what}.")
    if found[2] not in units:
        same = [unit for unit in units if unit.lower() == found[2].lower()]
        hint = f" Did you mean {same[0]!r}?" if len(same) == 1 else nearest(found[2], units)
        raise ConfigError(f"Unknown unit {found[2]!r} in {text!r}. Must be {what}.{hint if found[2] else ''}")
    value = number * units[found[2]]
    if not (value > 0 or (zero and value == 0)) or value == math.inf:
        raise ConfigError(f"Invalid {text!r}. Must be {'>= 0' if zero else '> 0'}.")
    return value


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
