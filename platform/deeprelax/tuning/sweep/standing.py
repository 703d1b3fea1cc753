"""How a sweep stands: its trials by outcome and its best one, from what the study knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from deeprelax.tuning.study.terms import Direction

LEADING = 10
"""How many of the best trials are looked at together."""


@dataclass(frozen=True)
class Standing:
    """What is known of a sweep at one moment.

    Args:
        trials: of the study that count, by number.
        metrics: the objectives.
        directions: of the objectives.
    """

    trials: Sequence[FrozenTrial]
    metrics: tuple[str, ...]
    directions: tuple[Direction, ...]

    @property
    def complete(self) -> list[FrozenTrial]:
        """Return the trials that were trained to their end."""
        return [trial for trial in self.trials if trial.state is TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """Return the best trial in the first objective; of equal ones that with the smaller loss, then the earlier."""
        return next(iter(self.ranking), None)

    @property
    def ranking(self) -> list[FrozenTrial]:
        """Return the trials that were trained to their end, the best first."""
        return sorted(self.complete, key=self._rank)

    def leading(self, count: int) -> list[FrozenTrial]:
        """Return the best trials in the first objective, the best first, at most ``count``."""
        return sorted(self.complete, key=self._rank)[:count]

    @property
    def front(self) -> list[FrozenTrial]:
        """Return the trials that none is better than in every objective, in the order of the first one."""
        losses = {trial.number: self._losses(trial) for trial in self.complete}
        kept = [
            trial
            for trial in self.complete
            if not any(_dominates(other, losses[trial.number]) for other in losses.values())
        ]
        return sorted(kept, key=self._rank)

    @property
    def gradients(self) -> float:
        """Return the mini-batch gradients that all trials together have cost, as far as they said so."""
        return sum(cost_of(trial).get("gradients", 0.0) for trial in self.trials)

    def _losses(self, trial: FrozenTrial) -> tuple[float, ...]:
        return tuple(
            -value if direction == "maximize" else value
            for value, direction in zip(trial.values or (), self.directions, strict=True)
        )

    def _rank(self, trial: FrozenTrial) -> tuple[float, ...]:
        return (*self._losses(trial), cost_of(trial).get("center/loss", 0.0), float(trial.number))


def cost_of(trial: FrozenTrial) -> Mapping[str, float]:
    """Return the numbers that a trial reported last; empty if it has none."""
    cost: Mapping[str, float] = trial.user_attrs.get("cost", {})
    return cost


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
