"""All points of a search space that has finitely many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from optuna.distributions import FloatDistribution, IntDistribution

from deeprelax.errors import ConfigError

Scalar: TypeAlias = str | bool | int | float | None

_Value = TypeVar("_Value", bound=Scalar)

MOST_POINTS = 10_000


def grid(suggest: Callable[[GridSuggester], object]) -> list[dict[str, Scalar]]:
    """Return every point of a space, for ``Study.open(..., first=grid(space.suggest))``.

    Args:
        suggest: asks for the parameters of the space, each after those it depends on.

    Raises:
        ConfigError: a parameter is continuous, or there are more than 10 000 points.

    Example:
        >>> def suggest(trial):
        ...     if trial.suggest_categorical("method", ["sgd", "easgd"]) == "easgd":
        ...         trial.suggest_int("period", 1, 5, step=2)
        >>> grid(suggest)
        [{'method': 'sgd'}, {'method': 'easgd', 'period': 1}, {'method': 'easgd', 'period': 3},
         {'method': 'easgd', 'period': 5}]
    """
    points = []
    chosen: list[int] = []
    while True:
        suggester = GridSuggester(chosen)
        suggest(suggester)
        points.append(suggester.point)
        if len(points) > MOST_POINTS:
            raise ConfigError(f"Invalid sampler='grid': the space has more than {MOST_POINTS} points. Use random.")
        # Count up: the last parameter that has another value takes it, those after it are asked for anew.
        chosen = [*suggester.chosen]
        while chosen and chosen[-1] + 1 == suggester.sizes[len(chosen) - 1]:
            chosen.pop()
        if not chosen:
            return points
        chosen[-1] += 1


class GridSuggester:
    """Answers with the values of one point of the grid.

    Args:
        chosen: which value of the first parameters, by index; the others take their first one.
    """

    def __init__(self, chosen: Sequence[int]) -> None:
        self._given = chosen
        self.chosen: list[int] = []
        self.sizes: list[int] = []
        self.point: dict[str, Scalar] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a value on the grid of the parameter."""
        if step is None and low != high:
            raise ConfigError(
                f"Invalid sampler='grid': {name} is continuous. Give it a step or choices, or use another sampler."
            )
        known = FloatDistribution(low, high, log=log, step=step)
        size = 1 if step is None else round((known.high - known.low) / step) + 1
        # Rounding must not put the last one outside of the range.
        return self._take(name, [min(known.low + index * (step or 0.0), known.high) for index in range(size)])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number of the parameter."""
        known = IntDistribution(low, high, log=log, step=step)
        return self._take(name, range(known.low, known.high + 1, step))

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return one of the choices."""
        return self._take(name, choices)

    def _take(self, name: str, values: Sequence[_Value]) -> _Value:
        index = self._given[len(self.chosen)] if len(self.chosen) < len(self._given) else 0
        self.chosen.append(index)
        self.sizes.append(len(values))
        self.point[name] = values[index]
        return values[index]
