"""What varies: a dimension asks for its parameters and sets one field of a run."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from deeprelax.errors import ConfigError
from deeprelax.tuning.space.draft import Draft, shorten
from deeprelax.tuning.space.measure import measure_for
from deeprelax.tuning.space.parameter import Condition, Parameter
from deeprelax.tuning.space.suggester import Scalar, Suggester


class Dimension(ABC):
    """A frozen value; leaves are dataclasses whose compared fields are their description."""

    @abstractmethod
    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield what a sampler is asked for, each after those it depends on.

        Args:
            prefix: put before the names; it ends in a dot.
            conditions: that hold for the whole dimension.
        """

    @abstractmethod
    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Ask ``trial`` and put the result into ``draft``."""

    def describe(self) -> dict[str, object]:
        """Return the dimension as plain JSON values; where its bounds come from is not part of it."""
        values = {
            item.name: _plain(getattr(self, item.name))
            for item in dataclasses.fields(self)  # type: ignore[arg-type]  # leaves are dataclasses
            if item.compare
        }
        return {"kind": type(self).__name__, **values}


@dataclass(frozen=True, kw_only=True)
class Constant(Dimension):
    """A field that does not vary.

    Args:
        field: of the run or the coupling.
        value: plain JSON, or a schedule's text.
    """

    field: str
    value: object

    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield nothing."""
        yield from ()

    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Put the value."""
        draft.put(self.field, self.value)


@dataclass(frozen=True, kw_only=True)
class Float(Dimension):
    """A number.

    Args:
        field: of the run or the coupling.
        low: lowest value.
        high: highest value.
        log: search in the logarithm.
        step: distance of the values, counted from ``low``.
        measure: the number stands for the field by this measure, see :data:`~deeprelax.tuning.space.measure.MEASURES`.
        source: where the bounds come from.

    Raises:
        ConfigError: the bounds are no range, or the measure does not stand for the field.
    """

    field: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    measure: str | None = None
    source: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        list(self.parameters())

    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield the number."""
        yield Parameter(
            name=f"{prefix}{self.field}" + (f".{self.measure}" if self.measure else ""),
            field=f"{prefix}{self.field}",
            kind="float",
            low=self.low,
            high=self.high,
            log=self.log,
            step=self.step,
            conditions=conditions,
            meaning=f"{self.field} = {measure_for(self.field, self.measure).formula}" if self.measure else "",
            source=self.source,
        )

    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Put the number, or what it stands for."""
        (parameter,) = self.parameters(prefix)
        value = number(parameter.ask(trial))
        if self.measure:
            draft.put(self.field, shorten(measure_for(self.field, self.measure).convert(value, draft)))
        else:
            draft.put(self.field, min(max(shorten(value), self.low), self.high))


@dataclass(frozen=True, kw_only=True)
class Int(Dimension):
    """A whole number.

    Args:
        field: of the run or the coupling.
        low: lowest value.
        high: highest value.
        log: search in the logarithm.
        step: distance of the values, counted from ``low``.
        source: where the bounds come from.

    Raises:
        ConfigError: the bounds are no range.
    """

    field: str
    low: int
    high: int
    log: bool = False
    step: int = 1
    source: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        list(self.parameters())

    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield the number."""
        yield Parameter(
            name=f"{prefix}{self.field}",
            field=f"{prefix}{self.field}",
            kind="int",
            low=self.low,
            high=self.high,
            log=self.log,
            step=None if self.step == 1 else self.step,
            conditions=conditions,
            source=self.source,
        )

    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Put the number."""
        (parameter,) = self.parameters(prefix)
        draft.put(self.field, parameter.ask(trial))


@dataclass(frozen=True, kw_only=True)
class Choice(Dimension):
    """One of several values without an order.

    Args:
        field: of the run or the coupling.
        choices: the values.
        source: where they come from.

    Raises:
        ConfigError: there is nothing to choose from, or a value stands twice.
    """

    field: str
    choices: tuple[Scalar, ...]
    source: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        list(self.parameters())

    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield the choice."""
        yield Parameter(
            name=f"{prefix}{self.field}",
            field=f"{prefix}{self.field}",
            kind="categorical",
            choices=self.choices,
            conditions=conditions,
            source=self.source,
        )

    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Put the choice."""
        (parameter,) = self.parameters(prefix)
        draft.put(self.field, parameter.ask(trial))


def number(value: Scalar) -> float:
    """Return the answer to a numeric parameter.

    Raises:
        ConfigError: the suggester answered with something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"Invalid suggestion {value!r}. Must be a number.")
    return float(value)


def _plain(value: object) -> object:
    if isinstance(value, Dimension):
        return value.describe()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
