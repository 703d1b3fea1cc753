"""A schedule as one searchable object: its shape, and then what that shape needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from deeprelax.errors import ConfigError
from deeprelax.schedules import Schedule, Unit, write
from deeprelax.schedules.schedule import Shape
from deeprelax.tuning.space.dimension import Dimension, number
from deeprelax.tuning.space.draft import Draft, shorten
from deeprelax.tuning.space.measure import measure_for
from deeprelax.tuning.space.parameter import Condition, Parameter, Range, ask_all
from deeprelax.tuning.space.suggester import Scalar, Suggester

_LEVELS: tuple[Shape, ...] = ("constant", "linear", "exponential", "cosine", "piecewise")
_CHANGING: tuple[Shape, ...] = ("linear", "exponential", "cosine", "piecewise")


@dataclass(frozen=True, kw_only=True)
class ScheduleDimension(Dimension):
    """The schedule of one field, searched as shape, start, total change and span; written as ``exp(100,1)``.

    ===================  ======================================  =========================================
    parameter            asked for                               what it is
    ===================  ======================================  =========================================
    ``FIELD.shape``      with more than one shape                one of ``shapes``
    ``FIELD.start``      unless the shape is auto                first value (named after the measure, if any)
    ``FIELD.change``     when the value changes                  last value / first value
    ``FIELD.unit``       when it changes, more than one unit     what the span counts
    ``FIELD.UNIT``       when it changes, a span is searched     length of the change in that unit
    ``FIELD.growth``     when the shape is auto                  total factor of the stiffness
    ===================  ======================================  =========================================

    A ``piecewise`` schedule is one drop: the first value until the end of the span, then the last.

    Args:
        field: of the coupling; one that takes schedules.
        shapes: shapes to choose from.
        start: range of the first value; searched in the logarithm.
        change: range of last value / first value, likewise; a number is not searched, 0 goes to zero.
        spans: units and the range of the span in each; empty: the whole run.
        growth: ``auto`` only: range of the growth, searched in the logarithm.
        measure: ``start`` and ``change`` are those of this dimensionless number, which stands for the field.
        source: where the bounds come from.

    Raises:
        ConfigError: a range is missing, is none, or belongs to no shape of the dimension.

    Example:
        >>> from deeprelax.tuning.space import Draft, PointSuggester
        >>> gamma = ScheduleDimension(field="gamma", shapes=("exponential",), start=(1, 100), change=(0.01, 1))
        >>> draft = Draft()
        >>> gamma.suggest(PointSuggester({"gamma.start": 100, "gamma.change": 0.01}), draft)
        >>> draft.fields
        {'coupling': {'gamma': 'exp(100,1)'}}
    """

    field: str
    shapes: tuple[Shape, ...]
    start: Range | None = None
    change: Range | float | None = None
    spans: tuple[tuple[Unit, Range], ...] = ()
    growth: Range | None = None
    measure: str | None = None
    source: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        needs: dict[str, tuple[Shape, ...]] = {"start": _LEVELS, "change": _CHANGING, "growth": ("auto",)}
        for name, shapes in needs.items():
            needed, given = self._among(*shapes), getattr(self, name) is not None
            if needed and not given:
                raise ConfigError(f"Missing {name} of {self.field}. Must be given for {', '.join(needed)}.")
            if given and not needed:
                raise ConfigError(f"Invalid {name} of {self.field}. Must be left out: shapes are {self.shapes}.")
        if self._among("piecewise") and not self.spans:
            raise ConfigError(f"Missing spans of {self.field}. Must say when a piecewise schedule drops.")
        if self.spans and not self._moving:
            raise ConfigError(f"Invalid spans of {self.field}. Must be left out: a constant has none.")
        list(self.parameters())

    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield the shape, then what depends on it."""
        name = f"{prefix}{self.field}"
        if len(self.shapes) != 1:
            yield Parameter(
                name=f"{name}.shape", field=name, kind="categorical", choices=self.shapes, conditions=conditions,
                source=self.source,
            )  # fmt: skip
        if self.start is not None:
            first = f"{self.field} = {measure_for(self.field, self.measure).formula}" if self.measure else "first value"
            when = conditions + self._when(name, *_LEVELS)
            yield self._number(name, self.measure or "start", self.start, when, first)
        if isinstance(self.change, tuple):
            when = conditions + self._when(name, *_CHANGING)
            yield self._number(name, "change", self.change, when, f"last / first {self.measure or self.field}")
        yield from self._span_parameters(name, conditions + self._when(name, *_CHANGING, "auto"))
        if self.growth is not None:
            when = conditions + self._when(name, "auto")
            yield self._number(name, "growth", self.growth, when, "total factor of the stiffness")

    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Put the schedule's text."""
        own = f"{prefix}{self.field}."
        answers = {name.removeprefix(own): value for name, value in ask_all(self.parameters(prefix), trial).items()}
        draft.put(self.field, write(self._schedule(answers, draft)))

    def _span_parameters(self, name: str, conditions: tuple[Condition, ...]) -> Iterator[Parameter]:
        units = tuple(unit for unit, _ in self.spans)
        if len(units) > 1:
            yield Parameter(
                name=f"{name}.unit", field=name, kind="categorical", choices=units, conditions=conditions,
                source=self.source,
            )  # fmt: skip
        for unit, bounds in self.spans:
            own: tuple[Condition, ...] = ((f"{name}.unit", (unit,)),) if len(units) > 1 else ()
            counted = "as a part of the run" if unit == "fraction" else f"in {unit}"
            yield self._number(name, unit, bounds, conditions + own, f"length of the change {counted}", log=False)

    def _schedule(self, answers: dict[str, Scalar], draft: Draft) -> Schedule:
        shape = next(known for known in self.shapes if known == answers.get("shape", self.shapes[0]))
        unit: Unit = next((known for known, _ in self.spans if known in answers), "fraction")
        span = shorten(number(answers.get(unit, 1.0)))
        if shape == "auto":
            return Schedule(shape="auto", growth=shorten(number(answers["growth"])), unit=unit, span=span)
        first = number(answers[self.measure or "start"])
        start = self._value(first, draft)
        if shape == "constant":
            return Schedule(start=start)
        change = number(answers["change"]) if isinstance(self.change, tuple) else float(self.change or 0.0)
        end = self._value(first * change, draft)
        if shape == "piecewise":
            return Schedule(shape="piecewise", points=((0.0, start), (span, end)), unit=unit)
        return Schedule(shape=shape, start=start, end=end, unit=unit, span=span)

    def _value(self, level: float, draft: Draft) -> float:
        return shorten(measure_for(self.field, self.measure).convert(level, draft) if self.measure else level)

    def _among(self, *shapes: Shape) -> tuple[Shape, ...]:
        return tuple(shape for shape in self.shapes if shape in shapes)

    @property
    def _moving(self) -> bool:
        return any(shape != "constant" for shape in self.shapes)

    def _when(self, name: str, *shapes: Shape) -> tuple[Condition, ...]:
        among = self._among(*shapes)
        return () if among == self.shapes else ((f"{name}.shape", among),)

    def _number(
        self, name: str, key: str, bounds: Range, conditions: tuple[Condition, ...], meaning: str, *, log: bool = True
    ) -> Parameter:
        low, high = bounds
        return Parameter(
            name=f"{name}.{key}", field=name, kind="float", low=low, high=high, log=log, conditions=conditions,
            meaning=meaning, source=self.source,
        )  # fmt: skip
