"""What all drivers of one study agree on, stored in the study itself."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Literal, Self, TypeAlias, cast

from deeprelax.errors import ConfigError, nearest

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Direction: TypeAlias = Literal["minimize", "maximize"]

SAMPLERS = ("tpe", "gp", "cmaes", "nsga2", "nsga3", "random", "grid")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of a study.

    Args:
        metrics: names of the objectives, such as ``("center/error",)``.
        directions: one of ``"minimize"`` and ``"maximize"`` for each metric.
        space: the search space as plain JSON, as ``SearchSpace.describe()`` returns it.
        trials: number of trials that all drivers together finish, at least 1. Kept exactly.
        sampler: one of ``tpe gp cmaes nsga2 nsga3 random grid``; ``cmaes`` takes one metric.
        seed: seed of the suggestions.
        retries: how often a failed trial runs again with the same parameters. Preempted and lost ones always do.
        settings: what a sweep needs to go on from the study alone (trainable, budget, ...), as plain JSON.

    Raises:
        ConfigError: a field is out of range or not plain JSON.
    """

    metrics: tuple[str, ...]
    directions: tuple[Direction, ...]
    space: Mapping[str, object]
    trials: int
    sampler: str = "tpe"
    seed: int = 0
    retries: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))
        object.__setattr__(self, "directions", tuple(self.directions))
        for name in ("space", "settings"):
            object.__setattr__(self, name, plain(dict(getattr(self, name)), name))
        self._check_objectives()
        for name, least in (("trials", 1), ("retries", 0), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"Invalid {name}={value!r}. Must be an integer >= {least}.")
        if self.sampler not in SAMPLERS:
            raise ConfigError(
                f"Unknown sampler {self.sampler!r}.{nearest(self.sampler, SAMPLERS)} "
                f"Must be one of: {', '.join(SAMPLERS)}."
            )

    def _check_objectives(self) -> None:
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise ConfigError(f"Invalid metrics={self.metrics!r}. Must be at least one name, each once.")
        wrong = [direction for direction in self.directions if direction not in {"minimize", "maximize"}]
        if wrong or len(self.directions) != len(self.metrics):
            raise ConfigError(
                f"Invalid directions={self.directions!r}. Must be 'minimize' or 'maximize' for each of "
                f"{len(self.metrics)} metrics."
            )
        if self.sampler == "cmaes" and len(self.metrics) > 1:
            raise ConfigError("Invalid sampler='cmaes' for several metrics. Must be nsga2, nsga3, tpe, gp or random.")

    def to_json(self) -> dict[str, Json]:
        """Return the terms as plain JSON."""
        return cast("dict[str, Json]", plain(asdict(self), "terms"))

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> Self:
        """Return the terms from what :meth:`to_json` returned; fields of a newer version are left out."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})  # type: ignore[arg-type]

    def difference(self, mine: Terms) -> str:
        """Return where ``mine`` differs from these terms, the study's; ``""`` where it does not.

        Both values are named, one line for each field.
        """
        lines = []
        for item in fields(self):
            here, there = getattr(self, item.name), getattr(mine, item.name)
            if isinstance(here, Mapping):
                lines += _entries(item.name, here, there)
            elif here != there:
                lines.append(f"{item.name}: the study has {_short(here)}, you gave {_short(there)}")
        return "\n".join(f"  {line}" for line in lines)


def plain(value: object, name: str) -> object:
    """Return ``value`` as it comes back from JSON.

    Raises:
        ConfigError: it is not plain JSON; NaN and infinity are not either.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        reason = str(error)
    raise ConfigError(f"Invalid {name}={reprlib.repr(value)}: {reason}. Must be plain JSON.")


def _entries(name: str, here: Mapping[str, object], there: Mapping[str, object]) -> list[str]:
    """Return one line for each entry of a mapping in which the two sides differ."""
    nothing = object()
    return [
        f"{name}.{key}: the study has {_or_nothing(here, key)}, you gave {_or_nothing(there, key)}"
        for key in sorted({*here, *there})
        if here.get(key, nothing) != there.get(key, nothing)
    ]


def _or_nothing(values: Mapping[str, object], key: str) -> str:
    return _short(values[key]) if key in values else "nothing"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
