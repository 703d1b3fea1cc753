"""From a suggestion to runs that can be trained: what is unstable or impossible is refused before a step is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError
from deeprelax.registry import Trainable
from deeprelax.replica.task import Task
from deeprelax.tuning.space import PointSuggester, RandomSuggester, SearchSpace, Suggester
from deeprelax.tuning.sweep.config import SweepConfig

DRAWS = 100
"""Random points of a space that are tried before it is called infeasible."""


class Feasible:
    """Resolves suggestions against the task they would train.

    Args:
        config: of the sweep.
        trainable: what it names.
        place: returns a requested run as this driver places it; None: all its replicas take turns in one process.
    """

    def __init__(
        self, config: SweepConfig, trainable: Trainable, place: Callable[[RunConfig], RunConfig] | None = None
    ) -> None:
        self._config = config
        self._trainable = trainable
        self._place = place
        self._tasks: dict[str, Task] = {}

    def placing(self, place: Callable[[RunConfig], RunConfig]) -> Feasible:
        """Return the same with another ``place``."""
        return Feasible(self._config, self._trainable, place)

    def requested(self, suggested: Mapping[str, object]) -> RunConfig:
        """Return the run that a suggestion means, with the trainable's config complete, and placed.

        Raises:
            ConfigError: a field is unknown or out of range.
        """
        asked = self._config.requested(suggested, holdout=self._config.holdout)
        asked = asked.with_fields(trainable_config=self._trainable.configure(asked.trainable_config))
        return self._place(asked) if self._place is not None else asked

    def runs(self, requested: RunConfig) -> list[RunConfig]:
        """Return the resolved runs of a trial, one a seed.

        Raises:
            ConfigError: the run is impossible on this task.
            UnstableError: a spring is too stiff.
        """
        task = self.task(requested)
        # Evaluated as often as the run says; saved only when it pauses, if it does, and at the end.
        first = requested.with_fields(checkpoint_every=0.0, keep_checkpoints=1).resolved(task)
        return [first.with_fields(seed=requested.seed + index) for index in range(self._config.seeds)]

    def task(self, requested: RunConfig) -> Task:
        """Return the task of a run, already with its held-out part; the last one is kept."""
        key = json.dumps([requested.trainable_config, requested.holdout], sort_keys=True)
        if key not in self._tasks:
            self._tasks = {key: requested.judged(self._trainable.build(requested.trainable_config))}
        return self._tasks[key]


def check_feasible(space: SearchSpace, feasible: Feasible) -> None:
    """Refuse a space of which nothing can be trained, before anything is started.

    Raises:
        ConfigError: neither its published points nor random ones can be; says why the last one cannot.
    """
    points: list[Suggester] = [PointSuggester(point) for point in space.published()]
    why = ""
    for suggester in [*points, *(RandomSuggester(seed) for seed in range(DRAWS))]:
        try:
            feasible.runs(feasible.requested(space.suggest(suggester)))
        except ConfigError as error:
            why = str(error)
        else:
            return
    raise ConfigError(
        f"Invalid search: of {DRAWS} random points of space {space.name!r} none can be trained with what is fixed. "
        f"Widen the space, or fix less. The last one: {why}"
    )
