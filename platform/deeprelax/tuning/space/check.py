"""What is checked once, when a space is made, so that no trial is lost to a mistake in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from deeprelax.config import RunConfig
from deeprelax.coupling.methods import METHODS, coupling_type
from deeprelax.errors import ConfigError, nearest
from deeprelax.tuning.space.branch import Branch
from deeprelax.tuning.space.dimension import Constant, Dimension
from deeprelax.tuning.space.draft import RUN_FIELDS, TRAINABLE_PREFIX
from deeprelax.tuning.space.parameter import Parameter
from deeprelax.tuning.space.suggester import Scalar, Suggester


def check_names(space: str, parameters: Sequence[Parameter]) -> None:
    """Refuse a malformed name, a space without parameters, and two parameters of one name.

    Raises:
        ConfigError: says which.
    """
    if not re.fullmatch(r"[A-Za-z][\w-]*", space):
        raise ConfigError(f"Invalid space name {space!r}. Must be a letter, then letters, digits, '_' or '-'.")
    if not parameters:
        raise ConfigError(f"Invalid space {space!r}: nothing varies. Must have a dimension that is no constant.")
    twice = [name for name, times in Counter(parameter.name for parameter in parameters).items() if times > 1]
    if twice:
        raise ConfigError(f"Invalid space {space!r}: {twice[0]!r} stands twice. Must be one dimension a field.")


def check_fields(space: str, dimensions: Sequence[Dimension], methods: frozenset[str] = frozenset()) -> None:
    """Refuse dimensions of fields that neither a run nor its method has.

    Args:
        space: its name, for the message.
        dimensions: what is checked.
        methods: those a branch around them may have chosen.

    Raises:
        ConfigError: names the field and the nearest right one.
    """
    methods = _methods(dimensions) or methods
    for dimension in dimensions:
        name = _field(dimension)
        if name is not None and name not in RUN_FIELDS and not name.startswith(TRAINABLE_PREFIX):
            _check_coupling_field(space, name.partition(".")[0], methods)
        if isinstance(dimension, Branch):
            for choice, inner in dimension.options:
                check_fields(space, inner, frozenset({choice}) if name == "method" else methods)


def check_builds(
    space: str, parameters: Sequence[Parameter], suggest: Callable[[Suggester], Mapping[str, object]]
) -> None:
    """Build couplings at the ends of all ranges, every choice at least once.

    Raises:
        ConfigError: an end is no possible value of its field.
    """
    runs = sum(len(parameter.choices) for parameter in parameters) + 1
    for highest in (False, True):
        corner = _Corner(highest)
        for _ in range(runs):
            try:
                RunConfig(**{"trainable": "any", **suggest(corner)}).make_coupling()
            except ConfigError as error:
                end = "high" if highest else "low"
                raise ConfigError(f"Invalid space {space!r}: at the {end} end of its ranges: {error}") from None


class _Corner:
    """Answers with one end of every range, and with the choice it gave least often."""

    def __init__(self, highest: bool) -> None:
        self._highest = highest
        self._given: Counter[tuple[str, str]] = Counter()

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return high if self._highest else low

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return high if self._highest else low

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        choice = min(choices, key=lambda value: self._given[name, repr(value)])
        self._given[name, repr(choice)] += 1
        return choice


def _methods(dimensions: Sequence[Dimension]) -> frozenset[str]:
    """Return the methods that the dimensions may choose."""
    found: set[str] = set()
    for dimension in dimensions:
        if isinstance(dimension, Branch):
            chosen = [
                {choice} if _field(dimension) == "method" else _methods(inner) for choice, inner in dimension.options
            ]
            found.update(*chosen)
        elif _field(dimension) == "method":
            values = [dimension.value] if isinstance(dimension, Constant) else getattr(dimension, "choices", ())
            found.update(map(str, values))
    return frozenset(found)


def _field(dimension: Dimension) -> str | None:
    if isinstance(dimension, Branch):
        return dimension.name if dimension.sets_field else None
    return str(getattr(dimension, "field", ""))


def _check_coupling_field(space: str, field: str, methods: frozenset[str]) -> None:
    if not methods:
        raise ConfigError(
            f"Invalid space {space!r}: {field!r} is set but no method. Must hold a dimension or constant 'method', one "
            f"of: {', '.join(METHODS)}."
        )
    for method in sorted(methods):
        known = coupling_type(method).model_fields
        if field not in known:
            close = nearest(field, [*known, *RUN_FIELDS])
            raise ConfigError(
                f"Unknown field {field!r} in space {space!r}.{close} Must be a field of the coupling {method!r} "
                f"({', '.join(known)}), of the run ({', '.join(RUN_FIELDS)}), or {TRAINABLE_PREFIX}NAME."
            )
