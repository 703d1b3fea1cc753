"""A schedule as a frozen value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal, get_args

from deeprelax.errors import ConfigError
from deeprelax.schedules.position import UNITS, Position, Unit

Shape = Literal["constant", "linear", "exponential", "cosine", "piecewise", "auto", "staged"]
SHAPES: tuple[Shape, ...] = get_args(Shape)


def _linear(start: float, end: float, u: float) -> float:
    return start + (end - start) * u


def _exponential(start: float, end: float, u: float) -> float:
    return float(start * (end / start) ** u)


def _cosine(start: float, end: float, u: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * u))


_BETWEEN: dict[str, Callable[[float, float, float], float]] = {
    "linear": _linear,
    "exponential": _exponential,
    "cosine": _cosine,
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The value of one knob (γ, ρ, β, lr, period) along a run.

    A schedule is stated by its total change, never by a rate per step, and depends on nothing but the position, so a
    resumed run continues it exactly.

    ====================  =========================================================  ================================
    shape                 value at u = position / span, u clamped to [0, 1]          text
    ====================  =========================================================  ================================
    ``constant``          start                                                      ``0.1``
    ``linear``            start + (end - start) u                                    ``lin(0.1,0)``
    ``exponential``       start (end / start)^u                                      ``exp(100,1)``
    ``cosine``            end + (start - end) (1 + cos πu) / 2                       ``cos(0.1,0)``
    ``piecewise``         value of the last point passed                             ``piecewise(0:0.1,0.5:0.02)``
    ``auto``              1 / (base · growth^u): a spring balanced by measurement    ``auto(10000)``
    ``staged``            that of the last stage begun, as if it had held all along  ``staged(0:0.1,0.5:cos(0.2,0))``
    ====================  =========================================================  ================================

    ``auto`` is the focusing protocol of replicated SGD (Pittorino et al. 2021, arXiv:2006.07897): ``base`` is the
    stiffness (mean training loss) / (mean squared distance to the center), measured by the run after its first data
    pass; until then
    the value is ``inf`` (no spring).

    Args:
        shape: one of the above.
        start: first value.
        end: last value; kept after the span ends.
        unit: what ``span`` and the points count: ``steps``, ``exchanges``, ``passes`` or ``fraction`` of the run.
        span: length of the change in ``unit``, > 0. Default: the whole run.
        points: ``piecewise`` only: (position, value) pairs, positions rising from 0.
        growth: ``auto`` only: total factor of the stiffness over the span, > 0.
        base: ``auto`` only: the measured stiffness, once known.
        stages: ``staged`` only: (position, schedule) pairs, positions rising from 0; none of them ``auto`` or staged.

    Raises:
        ConfigError: a value is out of range for the shape.

    Example:
        >>> halfway = Position(step=50, total_steps=100)
        >>> Schedule(shape="exponential", start=100.0, end=1.0).at(halfway)
        10.0
    """

    shape: Shape = "constant"
    start: float = 0.0
    end: float = 0.0
    unit: Unit = "fraction"
    span: float = 1.0
    points: tuple[tuple[float, float], ...] = ()
    growth: float = 1.0
    base: float | None = None
    stages: tuple[tuple[float, Schedule], ...] = ()

    def __post_init__(self) -> None:
        _require(self.shape in SHAPES, "shape", self.shape, f"one of {', '.join(SHAPES)}")
        _require(self.unit in UNITS, "unit", self.unit, f"one of {', '.join(UNITS)}")
        _require(0 < self.span < math.inf, "span", self.span, "> 0 and finite")
        _CHECKS[self.shape](self)

    def at(self, position: Position) -> float:
        """Return the value at ``position``."""
        if self.shape == "constant":
            return self.start
        reached = position.measured_in(self.unit)
        if self.shape == "piecewise":
            return next(value for begin, value in reversed(self.points) if reached >= begin)
        if self.shape == "staged":
            return next(stage for begin, stage in reversed(self.stages) if reached >= begin).at(position)
        u = min(reached / self.span, 1.0)
        if self.shape == "auto":
            return math.inf if not self.base else 1.0 / (self.base * self.growth**u)
        return self.end if u == 1.0 else _BETWEEN[self.shape](self.start, self.end, u)

    @property
    def values(self) -> tuple[float, ...]:
        """The values between which the schedule moves; its smallest and largest are among them. Empty for ``auto``."""
        if self.shape == "piecewise":
            return tuple(value for _, value in self.points)
        if self.shape == "staged":
            return tuple(value for _, stage in self.stages for value in stage.values)
        if self.shape == "auto":
            return ()
        return (self.start,) if self.shape == "constant" else (self.start, self.end)

    @property
    def awaits_balance(self) -> bool:
        """True for an ``auto`` schedule whose stiffness has not been measured yet."""
        return self.shape == "auto" and self.base is None

    def scaled(self, factor: float) -> Schedule:
        """Return the schedule whose values are ``factor`` > 0 times these ones.

        Raises:
            ConfigError: it is ``auto``: its values are measured.

        Example:
            >>> Schedule(shape="cosine", start=0.1).scaled(2.0).start
            0.2
        """
        _require(self.shape != "auto", "shape", self.shape, "a shape whose values are given, to be scaled")
        points = tuple((begin, value * factor) for begin, value in self.points)
        stages = tuple((begin, stage.scaled(factor)) for begin, stage in self.stages)
        return replace(self, start=self.start * factor, end=self.end * factor, points=points, stages=stages)

    def then(self, fraction: float, following: Schedule) -> Schedule:
        """Return the schedule that is this one up to a part of the run, and the following one from there on.

        Args:
            fraction: of the run, in (0, 1); later than where the last stage begins.
            following: what its values are does not depend on where it begins.

        Raises:
            ConfigError: it begins too early, or a stage is ``auto``.

        Example:
            >>> Schedule(start=0.1).then(0.5, Schedule(start=0.2)).at(Position(step=50, total_steps=100))
            0.2
        """
        before = self.stages if self.shape == "staged" and self.unit == "fraction" else ((0.0, self),)
        return Schedule(shape="staged", stages=(*before, (fraction, following)))

    def balanced(self, stiffness: float) -> Schedule:
        """Return this ``auto`` schedule with its measured ``base`` stiffness."""
        return replace(self, base=stiffness)


def _require(fulfilled: bool, name: str, value: object, requirement: str) -> None:
    if not fulfilled:
        raise ConfigError(f"Invalid {name}={value!r}. Must be {requirement}.")


def _check_constant(schedule: Schedule) -> None:
    _require(not math.isnan(schedule.start), "start", schedule.start, "a number")


def _check_between(schedule: Schedule) -> None:
    for name in ("start", "end"):
        value = getattr(schedule, name)
        _require(math.isfinite(value), name, value, "finite when the schedule changes")


def _check_exponential(schedule: Schedule) -> None:
    _check_between(schedule)
    for name in ("start", "end"):
        value = getattr(schedule, name)
        _require(value > 0, name, value, "> 0 in an exponential schedule; use lin(...) to reach 0")


def _check_piecewise(schedule: Schedule) -> None:
    _require(not any(map(math.isnan, chain(*schedule.points))), "points", schedule.points, "pairs of numbers")
    _require(
        _rising([begin for begin, _ in schedule.points]),
        "points", schedule.points, "(position, value) pairs with positions rising from 0",
    )  # fmt: skip


def _check_staged(schedule: Schedule) -> None:
    _require(
        _rising([begin for begin, _ in schedule.stages]),
        "stages", schedule.stages, "(position, schedule) pairs with positions rising from 0",
    )  # fmt: skip
    for _, stage in schedule.stages:
        _require(stage.shape not in ("auto", "staged"), "stage", stage.shape, "neither auto nor staged itself")


def _rising(positions: Sequence[float]) -> bool:
    return bool(positions) and positions[0] == 0 and list(positions) == sorted(set(positions))


def _check_auto(schedule: Schedule) -> None:
    _require(0 < schedule.growth < math.inf, "growth", schedule.growth, "> 0 and finite")
    if schedule.base is not None:
        _require(0 <= schedule.base < math.inf, "base", schedule.base, ">= 0 and finite")


_CHECKS: dict[str, Callable[[Schedule], None]] = {
    "constant": _check_constant,
    "linear": _check_between,
    "exponential": _check_exponential,
    "cosine": _check_between,
    "piecewise": _check_piecewise,
    "auto": _check_auto,
    "staged": _check_staged,
}
