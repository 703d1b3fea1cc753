"""Messages that arrive exchanges late."""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deeprelax.errors import ConfigError

LONGEST = 64
"""Exchanges of the latest message; a later one is taken to be as late as this."""
_FORM = re.compile(r"^\s*(?:(const|exp)\s*\(\s*([^()]+?)\s*\)|([^()]+?))\s*$")


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How late messages are.

    Args:
        shape: every message is ``mean`` exchanges late (``const``), or each is floor(T) late, T exponential (``exp``).
        mean: of the lag or of T, in exchanges, >= 0; a whole number for ``const``.

    Raises:
        ConfigError: ``mean`` is out of range.
    """

    shape: Literal["const", "exp"] = "const"
    mean: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.mean <= LONGEST or (self.shape == "const" and self.mean % 1):
            kind = "a number" if self.shape == "exp" else "a whole number"
            raise ConfigError(f"Invalid lag={self.shape}({self.mean:g}). Must be {kind} in 0..{LONGEST} exchanges.")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return how late each of ``count`` messages is, int64, shape (count,)."""
        if self.shape == "const":
            return torch.full((count,), int(self.mean))
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        return (-self.mean * torch.log1p(-uniform)).long().clamp(max=LONGEST)


def read_lag(text: str) -> Lag:
    """Return the lag written as ``3``, ``const(3)`` or ``exp(2)``.

    Raises:
        ConfigError: the text is none of these.

    Example:
        >>> read_lag("exp(2)")
        Lag(shape='exp', mean=2.0)
    """
    found = _FORM.match(text)
    try:
        mean = float(found[2] or found[3]) if found else math.nan
    except ValueError:
        mean = math.nan
    if found is None or math.isnan(mean):
        raise ConfigError(f"Invalid lag {text!r}. Must be exchanges, such as 3, const(3) or exp(2).")
    return Lag(shape="exp" if found[1] == "exp" else "const", mean=mean)


class LateMail:
    """Holds what the replicas said and hands over what has arrived.

    In the place of a message that is k exchanges late stands what the same replica said k exchanges before, at the
    start its first message.

    Args:
        lag: how late.
        generator: of the lags.
    """

    def __init__(self, lag: Lag, generator: torch.Generator) -> None:
        self._lag = lag
        self._generator = generator
        self._said: deque[Tensor] = deque(maxlen=1 + (LONGEST if lag.shape == "exp" and lag.mean else int(lag.mean)))

    def arrived(self, messages: Tensor) -> Tensor:
        """Take the messages of one exchange, shape (n, d), and return what is averaged instead, shape (n, d)."""
        if not self._lag.mean:
            return messages
        self._said.appendleft(messages.clone())
        late = self._lag.draw(len(messages), self._generator).clamp(max=len(self._said) - 1)
        averaged = messages.clone()
        for k in late.unique().tolist():
            averaged[late == k] = self._said[k][late == k]
        return averaged
