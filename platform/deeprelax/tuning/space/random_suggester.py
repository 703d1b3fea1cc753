"""Uniformly random suggestions from a seed, without Optuna."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

from deeprelax.tuning.space.suggester import Scalar

_Value = TypeVar("_Value", bound=Scalar)


class RandomSuggester:
    """Draws every parameter independently: uniform, or uniform in the logarithm.

    Args:
        seed: the same seed gives the same values.

    Example:
        >>> random = RandomSuggester(seed=0)
        >>> random.suggest_int("period", 1, 100, log=True)
        44
        >>> random.params
        {'period': 44}
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.params: dict[str, Scalar] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a random number in [low, high]; with ``step``, one of low, low + step and so on."""
        if step is not None:
            value = low + step * self._random.randint(0, math.floor((high - low) / step + 1e-9))
        elif log:
            value = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            value = self._random.uniform(low, high)
        return self._note(name, min(max(value, low), high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a random whole number in [low, high]; with ``step``, one of low, low + step and so on."""
        if log:
            # Half a unit on both sides gives the ends their full share, as Optuna does.
            value = round(math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5))))
        else:
            value = low + step * self._random.randint(0, (high - low) // step)
        return self._note(name, min(max(value, low), high))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return a random choice."""
        return self._note(name, self._random.choice(choices))

    def _note(self, name: str, value: _Value) -> _Value:
        self.params[name] = value
        return value
