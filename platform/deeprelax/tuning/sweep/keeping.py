"""What a sweep leaves of its trials' checkpoints: none, or those of the best; the others go when a trial ends.

A trial that is trained has one checkpoint at most: the one it is paused at. So the space taken is that of the trials
open at once and of the best, however many trials there are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from deeprelax.config import RunConfig
from deeprelax.tuning.sweep.outcome import Audience, Outcome, Result
from deeprelax.tuning.sweep.standing import Standing


class Keeping:
    """An audience that removes checkpoints when a trial has ended.

    Args:
        audience: hears everything first.
        folder: of the trials' folders.
        standing: returns how the sweep stands.
        best: how many of the best trials keep their last checkpoint.
    """

    def __init__(self, audience: Audience, folder: Path, standing: Callable[[], Standing], best: int) -> None:
        self._audience = audience
        self._folder = folder
        self._standing = standing
        self._best = best

    def begun(self, number: int) -> None:
        """Hear that a trial has begun."""
        self._audience.begun(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:
        """Hear how a trial has ended."""
        self._audience.ended(number, outcome, why, result, requested)
        remove_checkpoints(self._folder, superfluous(self._standing(), self._best) if self._best else [number])


def superfluous(standing: Standing, best: int) -> list[int]:
    """Return the numbers of the trials that have ended and are not among the best."""
    kept = {trial.number for trial in standing.ranking[:best]}
    return [trial.number for trial in standing.trials if trial.state.is_finished() and trial.number not in kept]


def remove_checkpoints(folder: Path, numbers: Iterable[int]) -> None:
    """Remove the checkpoints of trials; logs and results stay.

    Args:
        folder: of the trials' folders.
        numbers: of the trials. One that was trained on another machine has nothing here.
    """
    for number in numbers:
        for checkpoints in (folder / f"{number:05d}").glob("seed-*/checkpoints"):
            shutil.rmtree(checkpoints, ignore_errors=True)
