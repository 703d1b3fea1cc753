"""Why a trial's process ended, where Tune tells a searcher only that it did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ray.tune import Callback

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_DIED = ("actor is dead", "actor died", "worker died", "worker process has died", "node died", "out of memory")
"""What Ray says when a process is gone; the name of its error is not written down."""


class Deaths(Callback):
    """Reads what Tune has written down about a trial's error. Its pickled state is empty."""

    def __init__(self) -> None:
        self._trials: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, object]:
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:  # noqa: ARG002
        """Remember a trial that has begun."""
        self._trials[trial.trial_id] = trial

    def why(self, trial_id: str) -> str:
        """Return in one line why the trial's process ended."""
        trial = self._trials.pop(trial_id, None)
        file = None if trial is None else trial.error_file
        text = Path(file).read_text(encoding="utf-8") if file and Path(file).is_file() else ""
        if not text or any(words in text.lower() for words in _DIED):
            return "its worker process died: out of memory, killed, or its node was lost"
        return f"Ray Tune: {text.strip().splitlines()[-1]}"
