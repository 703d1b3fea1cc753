"""What stops trials early or changes them: Ray Tune's schedulers by name. Ray is imported only when one is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from deeprelax.errors import ConfigError, nearest

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from deeprelax.tuning.study.terms import Direction

GRACE_PASSES = 1
"""Data passes that every trial is given."""

REDUCTION = 3
"""Of so many trials, one goes on past each rung."""

MOST_PASSES = 1_000_000
"""Data passes after which a trial would be stopped as if that were its end. It ends by itself, so there is no end."""

PBT = "pbt"

SCHEDULERS: Mapping[str, str] = {
    "none": "every trial is trained to its end",
    "asha": f"at 1, {REDUCTION}, {REDUCTION**2}, … passes only the best 1/{REDUCTION} of the trials seen there goes on",
    "hyperband": "as asha, in three brackets that begin to stop trials at different passes (asynchronous HyperBand)",
    "median": "a trial worse than the median of the others' means so far is stopped",
    PBT: "none is stopped: at every evaluation the worst quarter goes on as changed copies of the best quarter",
}
"""Names, and when each stops a trial."""


def known_scheduler(name: str) -> str:
    """Return ``name``.

    Raises:
        ConfigError: there is no such scheduler.
    """
    if name == "pb2":
        raise ConfigError(
            "Must be another one: Ray Tune's PB2 takes no suggestions from a study. Use pbt, which changes the same "
            "settings at random."
        )
    if name not in SCHEDULERS:
        raise ConfigError(f"Must be one of {', '.join(SCHEDULERS)}.{nearest(name, SCHEDULERS)}")
    return name


def make_scheduler(name: str, metric: str, direction: Direction) -> TrialScheduler | None:
    """Return Tune's scheduler, or None for ``none``. That of ``pbt`` is made by the driver: it knows the population.

    Args:
        name: of :data:`SCHEDULERS`.
        metric: the objective.
        direction: of the objective.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    mode = "min" if direction == "minimize" else "max"
    if name == "median":
        # Without the slice it also pauses trials to give others their turn, for which they would have to be saved.
        never: int = math.inf  # type: ignore[assignment]  # Tune subtracts and compares
        return MedianStoppingRule(
            time_attr="passes", metric=metric, mode=mode, grace_period=GRACE_PASSES, min_time_slice=never
        )
    if name in ("none", PBT):
        return None
    return AsyncHyperBandScheduler(
        time_attr="passes",
        metric=metric,
        mode=mode,
        max_t=MOST_PASSES,
        grace_period=GRACE_PASSES,
        reduction_factor=REDUCTION,
        brackets=3 if name == "hyperband" else 1,
    )


def reason(name: str, metric: str, value: float, passes: float) -> str:
    """Return why a trial was stopped early."""
    return f"{name}: {metric} {value:.4g} after {passes:.1f} passes; {SCHEDULERS[name]}"
