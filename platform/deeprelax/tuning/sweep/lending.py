"""Slots that a driver has no use for now, while other sweeps on its cluster wait for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deeprelax.tuning.sweep.neighbors import Neighbors

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import TrialScheduler


class Lender:
    """Counts a driver's slots, and ends the warm processes in those that it has no use for.

    Tune keeps a process whose trial has ended for the next one, and with it the process's slot, even if none will come
    for hours. It has no public way to say otherwise, so two methods of its loop are called here that are its own.
    Tune also writes its scheduler to disk, and what it refers to: the pickled state is empty.

    Args:
        alone: returns how many trials this driver could run at once if it were alone.
        neighbors: the other drivers.
    """

    def __init__(self, alone: Callable[[], int], neighbors: Neighbors) -> None:
        self._alone, self._neighbors = alone, neighbors
        self._loop: TuneController | None = None

    def __getstate__(self) -> dict[str, object]:
        return {}

    def slots(self, running: int, *, has_more: bool) -> int:
        """Return how many trials this driver may run at once now.

        Args:
            running: trials that it has begun.
            has_more: there was another one for it when it asked last.
        """
        count = self._neighbors.may_run(self._alone())
        if self._loop is not None and self._neighbors.others and (running >= count or not has_more):
            self._loop._cleanup_cached_actors(force_all=True)
            if not running:  # Tune waits for a trial now, and handles nothing else meanwhile
                self._loop._cleanup_stopping_actors(force_all=True)
        return count

    def watching(self, scheduler: TrialScheduler) -> TrialScheduler:
        """Return the scheduler, which from now on shows Tune's loop to this lender."""
        choose = scheduler.choose_trial_to_run

        def chosen(loop: TuneController) -> Trial | None:
            self._loop = loop._tune_controller  # type: ignore[attr-defined]  # inside a wrapper that warns
            return choose(loop)

        scheduler.choose_trial_to_run = chosen  # type: ignore[method-assign, assignment]
        return scheduler
