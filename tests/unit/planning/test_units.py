"""Links, rates and durations as people write them."""

from __future__ import annotations

import math

import pytest

from deeprelax.errors import ConfigError
from deeprelax.planning import Link, read_link, read_rate, read_seconds


@pytest.mark.parametrize(
    ("text", "rate", "latency"),
    [
        ("100Mbit:20ms", 12.5e6, 0.02),
        ("10Gbit", 1.25e9, 0.0),
        ("1GB/s:0.5ms", 1e9, 5e-4),
        ("1.5 MiB/s : 2 us", 1.5 * 2**20, 2e-6),
        ("400Gbit/s:1µs", 5e10, 1e-6),
        ("100Mbps:1s", 12.5e6, 1.0),
        ("1e3kbit:0s", 125e3, 0.0),
    ],
)
def test_links_are_read(text: str, rate: float, latency: float) -> None:
    link = read_link(text)
    assert [link.bytes_per_s, link.latency_s] == pytest.approx([rate, latency])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "Must be RATE:LATENCY, such as 100Mbit:20ms"),
        ("", "Must be a rate such as 100Mbit"),
        ("100:20ms", "Unknown unit '' in '100'"),
        ("100MBit:20ms", "Did you mean 'Mbit'"),
        ("100Mbit:20", "Must be a duration such as 20ms"),
        ("100Mbit:20MS", "Did you mean 'ms'"),
        ("100Mbit:", "Must be a duration"),
        ("0Mbit", "Must be > 0"),
        ("-1Gbit", "Must be > 0"),
        ("1Gbit:-1ms", "Must be >= 0"),
        ("1..2Gbit", "Must be a rate"),
        ("1e999Gbit", "Must be > 0"),
    ],
)
def test_what_is_no_link_is_refused_with_the_fix(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^Invalid link") as caught:
        read_link(text)
    assert says in str(caught.value)


def test_bits_and_bytes_differ_by_eight() -> None:
    assert read_rate("8Gbit") == read_rate("1GB/s") == read_rate("1GB")


def test_durations_are_read() -> None:
    assert [read_seconds(text) for text in ("400ms", "0.4s", "2min", "1h")] == [0.4, 0.4, 120.0, 3600.0]


@pytest.mark.parametrize(("rate", "latency"), [(0.0, 0.0), (math.nan, 0.0), (1.0, -1.0), (1.0, math.inf)])
def test_a_link_has_a_rate_and_a_latency(rate: float, latency: float) -> None:
    with pytest.raises(ConfigError, match="Must have bytes_per_s > 0"):
        Link(bytes_per_s=rate, latency_s=latency)
