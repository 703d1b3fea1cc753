"""What a search space asks for values: an Optuna trial, a random generator, or a point that is already known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from deeprelax.errors import ConfigError, nearest

Scalar = str | bool | int | float | None
"""A value of one searched parameter; plain JSON."""


class Suggester(Protocol):
    """Proposes values by name. ``optuna.Trial`` is one."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a number in [low, high]."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in [low, high]."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return one of ``choices``."""
        ...


class PointSuggester:
    """Repeats a known point: the published defaults, or the parameters of a finished trial.

    Args:
        point: a value for every parameter that is asked for.

    Raises:
        ConfigError: while suggesting: a value is missing or outside its bounds.

    Example:
        >>> PointSuggester({"lr.start": 0.1}).suggest_float("lr.start", 0.01, 1.0)
        0.1
    """

    def __init__(self, point: Mapping[str, Scalar]) -> None:
        self._point = dict(point)
        self.asked: set[str] = set()

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the point's number."""
        value = self._number(name, low, high)
        if step is not None and not _on_grid(value, low, step):
            raise ConfigError(f"Invalid {name}={value!r}. Must be {low:g} plus a multiple of {step:g}.")
        return value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the point's whole number."""
        value = self._number(name, low, high)
        if not _on_grid(value, low, step):
            raise ConfigError(f"Invalid {name}={value!r}. Must be a whole number, {low} plus a multiple of {step}.")
        return int(value)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return the point's choice."""
        value = self._value(name)
        if value not in choices:
            close = nearest(str(value), map(str, choices))
            raise ConfigError(f"Invalid {name}={value!r}. Must be one of {', '.join(map(repr, choices))}.{close}")
        return value

    @property
    def unused(self) -> list[str]:
        """Names of the point that nothing has asked for."""
        return sorted(set(self._point) - self.asked)

    def _value(self, name: str) -> Scalar:
        if name not in self._point:
            raise ConfigError(f"Missing {name!r} in the point.{nearest(name, self._point)} Must be given.")
        self.asked.add(name)
        return self._point[name]

    def _number(self, name: str, low: float, high: float) -> float:
        value = self._value(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"Invalid {name}={value!r}. Must be a number in [{low:g}, {high:g}].")
        return value


def _on_grid(value: float, low: float, step: float) -> bool:
    position = (value - low) / step
    return abs(position - round(position)) < 1e-9
