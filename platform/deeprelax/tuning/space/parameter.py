"""One searched parameter: its name, its distribution, and when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from deeprelax.errors import ConfigError
from deeprelax.tuning.space.suggester import Scalar, Suggester

Kind = Literal["float", "int", "categorical"]
Range = tuple[float, float]
"""Lowest and highest value, both included."""
Condition = tuple[str, tuple[Scalar, ...]]
"""Name of another parameter, and the values of it that make this one exist."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a sampler sees of a dimension; a dimension may consist of several.

    Args:
        name: unique in its space.
        field: the field it belongs to, with the same prefix; a branch's own name.
        kind: ``float``, ``int`` or ``categorical``.
        low: lowest value of a number.
        high: highest value of a number.
        log: the number is searched in its logarithm.
        step: distance of the values of a number, counted from ``low``; None for any (``int``: 1).
        choices: of a ``categorical``.
        conditions: all of them must hold for the parameter to exist.
        meaning: how the value becomes a field, where it is not the field's value itself.
        source: where the bounds come from.

    Raises:
        ConfigError: the bounds are no range, or there is nothing to choose from.
    """

    name: str
    field: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()
    conditions: tuple[Condition, ...] = ()
    meaning: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind == "categorical":
            if not self.choices or len({*map(repr, self.choices)}) < len(self.choices):
                raise ConfigError(f"Invalid choices={list(self.choices)!r} of {self.name}. Must be different values.")
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ConfigError(
                f"Invalid range [{self.low:g}, {self.high:g}] of {self.name}. Must be finite, low <= high."
            )
        if self.log and self.low <= 0:
            raise ConfigError(f"Invalid low={self.low:g} of {self.name}. Must be > 0 with log; or leave log out.")
        if self.step is not None and (self.log or self.step <= 0):
            raise ConfigError(f"Invalid step={self.step:g} of {self.name}. Must be > 0, and none with log.")

    def ask(self, trial: Suggester) -> Scalar:
        """Return the value ``trial`` proposes."""
        if self.kind == "categorical":
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def bounds(self) -> str:
        """Return the distribution in words, such as ``"0.01 … 1 (log)"``."""
        if self.kind == "categorical":
            return " | ".join(map(str, self.choices))
        notes = [*(["whole"] if self.kind == "int" else []), *(["log"] if self.log else [])]
        notes += [f"step {self.step:g}"] if self.step is not None else []
        return f"{self.low:g} … {self.high:g}" + (f" ({', '.join(notes)})" if notes else "")

    def condition(self) -> str:
        """Return when the parameter exists, in words; empty for always."""
        return " and ".join(f"{name} = {' or '.join(map(str, values))}" for name, values in self.conditions)


def ask_all(parameters: Iterable[Parameter], trial: Suggester) -> dict[str, Scalar]:
    """Return the answers of ``trial`` by name; a parameter whose conditions do not hold is not asked for."""
    answers: dict[str, Scalar] = {}
    for parameter in parameters:
        if all(answers.get(name) in values for name, values in parameter.conditions):
            answers[parameter.name] = parameter.ask(trial)
    return answers
