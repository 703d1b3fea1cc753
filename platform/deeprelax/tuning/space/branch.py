"""A choice that decides what else is searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from deeprelax.errors import ConfigError
from deeprelax.tuning.space.dimension import Dimension
from deeprelax.tuning.space.draft import Draft
from deeprelax.tuning.space.parameter import Condition, Parameter
from deeprelax.tuning.space.suggester import Suggester


@dataclass(frozen=True, kw_only=True)
class Branch(Dimension):
    """One of several groups of dimensions; their names start with that of the group: ``adamw.lr.start``.

    Args:
        name: of the choice; a field's name if ``sets_field``.
        options: name of each group, and its dimensions.
        sets_field: the name of the chosen group is the value of the field ``name``.
        source: where the options come from.

    Raises:
        ConfigError: there is no option.
    """

    name: str
    options: tuple[tuple[str, tuple[Dimension, ...]], ...]
    sets_field: bool = True
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        next(self.parameters())
        unnamed = [choice for choice, _ in self.options if not choice or "." in choice]
        if unnamed:
            raise ConfigError(f"Invalid options {unnamed!r} of {self.name}. Must be names without dots.")

    def parameters(self, prefix: str = "", conditions: tuple[Condition, ...] = ()) -> Iterator[Parameter]:
        """Yield the choice, then the parameters of every group under the condition that it was chosen."""
        name = f"{prefix}{self.name}"
        choices = tuple(choice for choice, _ in self.options)
        yield Parameter(
            name=name, field=name, kind="categorical", choices=choices, conditions=conditions, source=self.source
        )
        for choice, dimensions in self.options:
            for dimension in dimensions:
                yield from dimension.parameters(f"{prefix}{choice}.", (*conditions, (name, (choice,))))

    def suggest(self, trial: Suggester, draft: Draft, prefix: str = "") -> None:
        """Choose a group and let its dimensions set their fields."""
        chosen = next(self.parameters(prefix)).ask(trial)
        if self.sets_field:
            draft.put(self.name, chosen)
        for dimension in dict(self.options)[str(chosen)]:
            dimension.suggest(trial, draft, f"{prefix}{chosen}.")
