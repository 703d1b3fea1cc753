"""The search space itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, nearest
from deeprelax.replica.task import Task
from deeprelax.tuning.space.branch import Branch
from deeprelax.tuning.space.check import check_builds, check_fields, check_names
from deeprelax.tuning.space.dimension import Dimension
from deeprelax.tuning.space.draft import Draft
from deeprelax.tuning.space.parameter import Parameter
from deeprelax.tuning.space.suggester import PointSuggester, Scalar, Suggester


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Distributions over the fields of a run. Two spaces are equal if the same can be suggested under the same names.

    Args:
        name: letters, digits, ``_`` and ``-``.
        dimensions: what varies, and what is held; the method first, then what others refer to (lr, period).
        summary: one sentence.
        source: where the bounds come from, with a citation.
        points: parameters to try first, such as published defaults; each complete.

    Raises:
        ConfigError: the space is empty, two parameters share a name, a dimension sets no field of its method, a bound
            is no value of its field, or a point is not in the space.

    Example:
        >>> from deeprelax.tuning.space import Constant, Int, RandomSuggester
        >>> space = SearchSpace(
        ...     name="mine",
        ...     dimensions=(Constant(field="method", value="local_sgd"), Int(field="period", low=1, high=64, log=True)),
        ...     summary="How seldom local SGD may average.",
        ...     source="arXiv:1805.09767",
        ... )
        >>> space.suggest(RandomSuggester(seed=0))
        {'coupling': {'period': 30}, 'method': 'local_sgd'}
    """

    name: str
    dimensions: tuple[Dimension, ...]
    summary: str = field(compare=False)
    source: str = field(compare=False)
    points: tuple[Mapping[str, Scalar], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_names(self.name, self.parameters())
        check_fields(self.name, self.dimensions)
        check_builds(self.name, self.parameters(), self.suggest)
        for point in self.points:
            self.at(point)

    def parameters(self) -> list[Parameter]:
        """Return everything a sampler may be asked for, each after those it depends on."""
        return [parameter for dimension in self.dimensions for parameter in dimension.parameters()]

    def suggest(self, trial: Suggester) -> dict[str, object]:
        """Return fields of :class:`~deeprelax.config.RunConfig` as ``trial`` proposes them.

        Always ``method`` and ``coupling``; ``batch_size``, ``trainable_config`` and others if the space sets them.
        """
        draft = Draft()
        for dimension in self.dimensions:
            dimension.suggest(trial, draft)
        return draft.fields

    def at(self, point: Mapping[str, Scalar]) -> dict[str, object]:
        """Return the fields of a known point, such as the parameters of a finished trial.

        Raises:
            ConfigError: a parameter is missing, unknown or outside its bounds.
        """
        suggester = PointSuggester(point)
        try:
            fields = self.suggest(suggester)
        except ConfigError as error:
            raise ConfigError(f"Invalid point of space {self.name!r}: {error}") from None
        if suggester.unused:
            unknown = suggester.unused[0]
            hint = nearest(unknown, suggester.asked)
            raise ConfigError(
                f"Invalid point of space {self.name!r}: nothing asks for {unknown!r}.{hint} "
                f"Its parameters here: {', '.join(sorted(suggester.asked))}."
            )
        return fields

    def published(self) -> list[dict[str, Scalar]]:
        """Return the points to try first."""
        return [dict(point) for point in self.points]

    def describe(self) -> dict[str, object]:
        """Return the space as plain JSON values, equal for equal spaces; without its prose and its points."""
        return {"name": self.name, "dimensions": [dimension.describe() for dimension in self.dimensions]}

    def violation(self, fields: Mapping[str, object], task: Task) -> str | None:
        """Return why a suggestion cannot be trained, or None; it never trains.

        Args:
            fields: as suggested; fields of the run that the sweep adds (``epochs``, ``seed``) may be among them.
            task: built with the suggestion's ``trainable_config``.
        """
        settings: dict[str, object] = {"trainable": "any", "threads": 1, **fields}
        try:
            RunConfig(**settings).resolved(task)
        except ConfigError as error:
            return str(error)
        return None


def union(
    name: str, spaces: Sequence[SearchSpace], *, summary: str, source: str, parameter: str = "coupling"
) -> SearchSpace:
    """Return the space whose first choice is one of ``spaces``; their parameters start with the space's name.

    Args:
        name: of the new space.
        spaces: to choose from.
        summary: one sentence.
        source: where the choice comes from.
        parameter: name of the choice.
    """
    options = tuple((space.name, space.dimensions) for space in spaces)
    points: list[Mapping[str, Scalar]] = [
        {parameter: space.name, **{f"{space.name}.{key}": value for key, value in point.items()}}
        for space in spaces
        for point in space.published()
    ]
    return SearchSpace(
        name=name,
        dimensions=(Branch(name=parameter, options=options, sets_field=False, source=source),),
        summary=summary,
        source=source,
        points=tuple(points),
    )
