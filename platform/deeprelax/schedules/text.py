"""The short text form of a schedule, as typed after ``--set`` and written into a run's config."""

from __future__ import annotations

import re
from collections.abc import Callable

from deeprelax.errors import ConfigError, nearest
from deeprelax.schedules.position import UNITS, Unit
from deeprelax.schedules.schedule import Schedule, Shape

_NAMES: dict[str, Shape] = {"lin": "linear", "exp": "exponential", "cos": "cosine"}
_ALIASES = {"linear": "lin", "exponential": "exp", "cosine": "cos", "constant": "const"}
_CALL = re.compile(r"^\s*([a-z_]+)\s*\((.*)\)\s*$", re.DOTALL)
_OUTER_COMMA = re.compile(r",(?![^(]*\))")
"""A comma outside of parentheses; they are one deep."""
_FORMS = (
    "0.1, lin(0.1,0), exp(100,1), cos(0.1,0), piecewise(0:0.1,0.5:0.02), auto(10000), staged(0:0.1,0.5:cos(0.2,0)); "
    "with a span: exp(100,1,passes=5)"
)


def parse(text: str) -> Schedule:
    """Return the schedule written as ``text``.

    ``exp(100,1)`` changes over the whole run; ``exp(100,1,steps=500)`` (or ``exchanges=``, ``passes=``, ``fraction=``)
    over that span. In ``piecewise(0:0.1,30:0.02,passes)`` the last word says what the positions count; in
    ``staged(0:cos(0.1,0),30:cos(0.2,0),passes)`` too, and a schedule stands in the place of each value.

    Raises:
        ConfigError: the text is not a schedule; the message shows the forms.

    Example:
        >>> write(parse("exponential(100, 1, steps=500)"))
        'exp(100,1,steps=500)'
    """
    number = _number(text)
    if number is not None:
        return Schedule(start=number)
    call = _CALL.match(text)
    if call is None:
        raise ConfigError(f"Invalid schedule {text!r}. Must be a number or a shape: {_FORMS}.")
    name = _ALIASES.get(call[1], call[1])
    if name not in _READERS:
        raise ConfigError(f"Unknown schedule shape {call[1]!r} in {text!r}.{nearest(name, _READERS)} Forms: {_FORMS}.")
    words = [word.strip() for word in _OUTER_COMMA.split(call[2]) if word.strip()]
    try:
        return _READERS[name](words)
    except ConfigError as error:
        raise ConfigError(f"Invalid schedule {text!r}. {error}") from None


def as_schedule(value: Schedule | float | str) -> Schedule:
    """Return ``value`` as a schedule: a schedule itself, a number, or the text form."""
    if isinstance(value, Schedule):
        return value
    return parse(value) if isinstance(value, str) else Schedule(start=float(value))


def write(schedule: Schedule) -> str:
    """Return the text from which :func:`parse` restores ``schedule`` exactly."""
    if schedule.shape == "constant":
        return _plain(schedule.start)
    if schedule.shape == "piecewise":
        words = [f"{_plain(begin)}:{_plain(value)}" for begin, value in schedule.points]
        return f"piecewise({','.join([*words, *([schedule.unit] if schedule.unit != 'fraction' else [])])})"
    if schedule.shape == "staged":
        words = [f"{_plain(begin)}:{write(stage)}" for begin, stage in schedule.stages]
        return f"staged({','.join([*words, *([schedule.unit] if schedule.unit != 'fraction' else [])])})"
    if schedule.shape == "auto":
        base = [] if schedule.base is None else [f"base={_plain(schedule.base)}"]
        return f"auto({','.join([_plain(schedule.growth), *base, *_span(schedule)])})"
    name = _ALIASES[schedule.shape]
    return f"{name}({','.join([_plain(schedule.start), _plain(schedule.end), *_span(schedule)])})"


def _span(schedule: Schedule) -> list[str]:
    whole = schedule.unit == "fraction" and schedule.span == 1.0
    return [] if whole else [f"{schedule.unit}={_plain(schedule.span)}"]


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _split(words: list[str]) -> tuple[list[float], dict[str, float]]:
    numbers: list[float] = []
    named: dict[str, float] = {}
    for word in words:
        key, _, value = word.rpartition("=")
        number = _number(value)
        if number is None:
            raise ConfigError(f"{word!r} is not a number.")
        if key:
            named[key.strip()] = number
        else:
            numbers.append(number)
    return numbers, named


def _unit_and_span(named: dict[str, float]) -> tuple[Unit, float]:
    if not named:
        return "fraction", 1.0
    (key, span), *more = named.items()
    if more or key not in UNITS:
        raise ConfigError(
            f"The span must be one of {', '.join(f'{unit}=…' for unit in UNITS)}; got {', '.join(named)}."
        )
    return key, span


def _reader(shape: Shape) -> Callable[[list[str]], Schedule]:
    def read(words: list[str]) -> Schedule:
        numbers, named = _split(words)
        if len(numbers) != 2:
            raise ConfigError(f"It takes two values, start and end; got {len(numbers)}.")
        unit, span = _unit_and_span(named)
        return Schedule(shape=shape, start=numbers[0], end=numbers[1], unit=unit, span=span)

    return read


def _read_constant(words: list[str]) -> Schedule:
    numbers, named = _split(words)
    if len(numbers) != 1 or named:
        raise ConfigError("It takes one value.")
    return Schedule(start=numbers[0])


def _unit_last(words: list[str]) -> tuple[Unit, list[str]]:
    """Return what the positions count, by the last word if it is a unit, and the other words."""
    if words and words[-1] in UNITS:
        return words[-1], words[:-1]
    return "fraction", words


def _read_staged(words: list[str]) -> Schedule:
    unit, words = _unit_last(words)
    stages: list[tuple[float, Schedule]] = []
    for word in words:
        position, _, text = word.partition(":")
        begin = _number(position)
        if begin is None or not text:
            raise ConfigError(f"{word!r} is not a stage 'position:schedule'.")
        stages.append((begin, parse(text)))
    return Schedule(shape="staged", stages=tuple(stages), unit=unit)


def _read_piecewise(words: list[str]) -> Schedule:
    unit, words = _unit_last(words)
    points: list[tuple[float, float]] = []
    for word in words:
        position, _, level = word.partition(":")
        begin, value = _number(position), _number(level)
        if begin is None or value is None:
            raise ConfigError(f"{word!r} is not a point 'position:value'.")
        points.append((begin, value))
    return Schedule(shape="piecewise", points=tuple(points), unit=unit)


def _read_auto(words: list[str]) -> Schedule:
    numbers, named = _split(words)
    if len(numbers) > 1:
        raise ConfigError(f"It takes one value, the total growth of the stiffness; got {len(numbers)}.")
    base = named.pop("base", None)
    unit, span = _unit_and_span(named)
    return Schedule(shape="auto", growth=numbers[0] if numbers else 1.0, base=base, unit=unit, span=span)


_READERS: dict[str, Callable[[list[str]], Schedule]] = {
    **{name: _reader(shape) for name, shape in _NAMES.items()},
    "const": _read_constant,
    "piecewise": _read_piecewise,
    "auto": _read_auto,
    "staged": _read_staged,
}
