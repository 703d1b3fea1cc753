"""How trials end, and who hears of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from deeprelax.config import RunConfig

Outcome = Literal["complete", "pruned", "failed", "infeasible", "preempted"]
Result = Mapping[str, object]
"""What a trial reported: its values by the names of the objectives, and the keys below."""

FINISHED = "finished"
PAUSED = "paused"
FAILED = "failed"
DIVERGED = "diverged"
DISK_FULL = "disk_full"
GRADIENTS = "gradients"
ERRORS = "standard_errors"
ONE_BY_ONE = "one_by_one"
"""Why the trials of a pack that asked for it were not computed together."""
PACK = "pack"
"""The results of a pack's trials, as JSON; then none of the others is there."""


class Audience(Protocol):
    """Hears what happens to trials."""

    def begun(self, number: int) -> None:
        """Hear that a trial has begun."""
        ...

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:
        """Hear how a trial has ended; ``requested`` is None for one that could not be trained."""
        ...
