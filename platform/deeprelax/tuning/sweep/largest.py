"""The largest trial that a search space can suggest, found before one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError
from deeprelax.tuning.space import PointSuggester, RandomSuggester, Scalar, SearchSpace, Suggester
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.placing import least_seconds

DRAWS = 100
"""Random points of a space that are looked at besides its published ones."""


@dataclass(frozen=True)
class Largest:
    """A trial of the most replicas.

    Args:
        replicas: of one of its runs.
        seconds: under which a core cannot compute it, over all its seeds.
    """

    replicas: int
    seconds: float


SMALLEST = Largest(1, 0.0)
"""Of a space of which nothing can be trained."""


def largest(space: SearchSpace, feasible: Feasible) -> Largest:
    """Return the largest trial of a space; every parameter named ``replicas`` is drawn at its upper end."""
    suggesters: list[Suggester] = [PointSuggester(point) for point in space.published()]
    suggesters += [_Most(seed) for seed in range(DRAWS)]
    found: dict[int, RunConfig] = {}
    for suggester in suggesters:
        try:
            requested = feasible.requested(space.suggest(suggester))
            found.setdefault(requested.make_coupling().replicas, requested)
        except ConfigError:  # a point that cannot be trained is not asked of the cluster
            continue
    if not found:
        return SMALLEST
    replicas = max(found)
    return Largest(replicas, _least_seconds(found[replicas], feasible))


def _least_seconds(requested: RunConfig, feasible: Feasible) -> float:
    try:
        runs = feasible.runs(requested)
    except ConfigError:
        return 0.0
    with torch.random.fork_rng(devices=[]):
        model = feasible.task(requested).model()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    gradients = sum((run.steps or 0) * run.make_coupling().replicas for run in runs)
    return least_seconds(parameters, gradients * float(runs[0].batch_size or 0))


class _Most(RandomSuggester):
    """Draws at random, but as many replicas as can be."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the largest number of replicas, or a random whole number."""
        drawn = super().suggest_int(name, low, high, step=step, log=log)
        return high if _is_replicas(name) else drawn

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return the largest number of replicas, or a random choice."""
        drawn = super().suggest_categorical(name, choices)
        numbers = [choice for choice in choices if isinstance(choice, int)]
        return max(numbers) if _is_replicas(name) and numbers else drawn


def _is_replicas(name: str) -> bool:
    return name.rpartition(".")[2] == "replicas"
