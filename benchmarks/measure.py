"""Times that are compared are taken in turns in one run: a busy machine slows a pair down together, so ratios hold."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

import torch

Call = Callable[[], object]
Contenders = Mapping[str, Call]
Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender: its times and their ratios to another's, pair by pair.

    ``limit`` is the ratio that memory traffic alone allows. ``bar`` (a ratio) and ``bar_s`` must not be exceeded.
    """

    group: str
    name: str
    seconds: tuple[float, ...]
    base_seconds: tuple[float, ...]
    against: str
    limit: float | None = None
    bar: float | None = None
    bar_s: float | None = None

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(own / other for own, other in zip(self.seconds, self.base_seconds, strict=True))

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def passed(self) -> bool:
        fast = self.bar_s is None or median(self.seconds) <= self.bar_s
        return fast and (self.bar is None or self.ratio <= self.bar)

    def cells(self) -> tuple[str, ...]:
        low, _, high = quantiles(self.ratios, n=4)
        bar = f"{self.bar:g}" if self.bar else f"{1e3 * self.bar_s:g} ms" if self.bar_s else ""
        return (
            self.name,
            f"{1e3 * median(self.seconds):.3g}",
            f"{self.ratio:.3f}",
            f"{low:.2f} – {high:.2f}",
            f"{self.limit:.2f}" if self.limit else "",
            f"{bar} {'ok' if self.passed else 'MISSED'}" if bar else "",
        )


@dataclass(frozen=True, kw_only=True)
class How:
    """How times are taken: ``repeats`` pairs, this and the other first in turn; fewer, if they take over ``budget_s``.

    All that is made anew ``rounds`` times, because the place of a vector in memory changes its speed by 10 %.
    ``clock`` is ``wall``, or ``cpu``: the time this process and its children had a core. Waiting does not count there,
    so on a busy machine it is the better choice for one thread on the CPU; it cannot see a GPU.
    """

    repeats: int = 9
    rounds: int = 3
    device: str = "cpu"
    clock: Literal["wall", "cpu"] = "wall"
    budget_s: float = 1.5

    def now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        if self.clock == "wall":
            return time.perf_counter()
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime


COLUMNS = ("", "median ms", "ratio", "quartiles", "limit", "bar")
SAMPLE_S = 0.005
FEWEST_REPEATS = 3


def compare(
    group: str,
    make: Callable[[], Contenders],
    against: str,
    how: How,
    *,
    limits: Mapping[str, float] | None = None,
    bars: Mapping[str, float] | None = None,
    bars_s: Mapping[str, float] | None = None,
) -> list[Row]:
    """Return a row for each contender. Each of its times has its own time of ``against``, right beside it.

    Args:
        group: title of the table.
        make: builds what is timed; the first call of each may compile.
        against: the contender whose time is 1.
        how: see :class:`How`.
        limits: ratio that memory traffic alone allows.
        bars: ratio that must not be exceeded.
        bars_s: seconds that must not be exceeded.
    """
    times: dict[str, list[Pair]] = {}
    for _ in range(how.rounds):
        contenders = make()
        for name, call in contenders.items():
            times.setdefault(name, []).extend(_pairs(call, contenders[against], how))
    return [
        Row(
            group=group,
            name=name,
            seconds=tuple(own for own, _ in pairs),
            base_seconds=tuple(base for _, base in pairs),
            against=against,
            limit=(limits or {}).get(name),
            bar=(bars or {}).get(name),
            bar_s=(bars_s or {}).get(name),
        )
        for name, pairs in times.items()
    ]


def _pairs(call: Call, base: Call, how: How) -> list[Pair]:
    calls, base_calls = _calls(call, how), _calls(base, how)
    pairs: list[Pair] = []
    end = time.monotonic() + how.budget_s
    while len(pairs) < how.repeats and (len(pairs) < FEWEST_REPEATS or time.monotonic() < end):
        if len(pairs) % 2:
            own, other = _seconds(call, calls, how), _seconds(base, base_calls, how)
        else:
            other, own = _seconds(base, base_calls, how), _seconds(call, calls, how)
        pairs.append((own, other))
    return pairs


def _calls(call: Call, how: How) -> int:
    """Warm up (the first call may compile) and return how many calls last about ``SAMPLE_S``."""
    call()
    return max(1, round(SAMPLE_S / max(1e-6, _seconds(call, 1, how))))


def _seconds(call: Call, calls: int, how: How) -> float:
    begin = how.now()
    for _ in range(calls):
        call()
    return (how.now() - begin) / calls
