"""How many trials a process is given at once: short ones would spend more time between trials than in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from statistics import median
from typing import Literal, TypeAlias

from deeprelax.errors import ConfigError
from deeprelax.tuning.sweep.config import SweepConfig

Pack: TypeAlias = 'int | Literal["auto"]'

PACK_S = 1.5
"""Seconds that a pack should last: what a driver that stops gives back unfinished."""

MOST = 32
"""Trials of a pack at most."""

MOST_LEARNING = 8
"""The same for a sampler that learns from results: it suggests all trials of a pack before it knows one of theirs."""

_REMEMBERED = 15


class Packing:
    """Chooses the size of packs, from how long trials take in this driver's processes.

    Args:
        pack: trials of a pack; ``auto``: as many as last about :data:`PACK_S`, and one while nothing is known, under a
            scheduler, which looks at every evaluation, and with ``max_gradients``, after which no trial begins.
        config: of the sweep.

    Raises:
        ConfigError: the number is less than 1, or more and there is a scheduler.
    """

    def __init__(self, pack: Pack, config: SweepConfig) -> None:
        if pack != "auto" and pack < 1:
            raise ConfigError(f"Invalid pack={pack}. Must be >= 1, or auto.")
        if pack != "auto" and pack > 1 and config.scheduler != "none":
            raise ConfigError(
                f"Invalid pack={pack} under scheduler={config.scheduler!r}. Must be 1 or auto: a scheduler looks at "
                "every evaluation of a trial, and a pack is trained to its end. Leave the scheduler out, or the pack."
            )
        measured = pack == "auto" and config.scheduler == "none" and config.max_gradients is None
        self._fixed = None if measured else 1 if pack == "auto" else pack
        self._alone: Callable[[], bool] | None = None
        self._most = MOST if config.sampler in {"random", "grid"} else MOST_LEARNING
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def size(self) -> int:
        """Return how many trials the next pack may have."""
        if self._alone is not None and self._alone():
            return 1
        if self._fixed is not None:
            return self._fixed
        if not self._seconds:
            return 1
        # The median, since the first trial of a process loads the data.
        return max(1, min(self._most, int(PACK_S / max(median(self._seconds), 1e-6))))

    def unless(self, alone: Callable[[], bool]) -> Packing:
        """Return the same, but with packs of one while ``alone()``: trials that do not share a process."""
        found = copy(self)
        found._alone = alone
        return found

    def took(self, seconds: float, trials: int) -> None:
        """Hear how long a pack has been trained."""
        self._seconds.append(seconds / trials)
