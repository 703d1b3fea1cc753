"""Leases: a driver keeps its running trials by renewing them; who is silent for too long loses them.

The database's clock decides, so drivers need not agree on the time. A driver may call another silent only if it has
itself been in touch without a gap: after the database was away, or the machine was asleep, all leases look old, and the
living drivers get one grace period to renew theirs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from deeprelax.errors import StudyError
from deeprelax.tuning.study.link import LONGEST_PAUSE_S

HEARTBEAT_S = 15.0
"""Seconds between two renewals of a lease."""

GRACE_S = 45.0
"""Seconds without renewal after which a trial is given back to the queue."""


class Leases:
    """The trials that this driver holds, renewed by a thread.

    Args:
        renew: asks the database to renew the leases of trials, and returns those that were taken away.
        every_s: seconds between two renewals.
        grace_s: seconds without renewal that end a lease.
        clock: seconds that go on while the machine sleeps.
    """

    def __init__(
        self,
        renew: Callable[[Sequence[int]], set[int]],
        *,
        every_s: float = HEARTBEAT_S,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._renew = renew
        self._every_s, self._grace_s, self._clock = every_s, grace_s, clock
        self._held: set[int] = set()
        self._lost: set[int] = set()
        self._contact_s = clock()
        self._gap_s: float | None = None  # when the last gap ended
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deeprelax-leases", daemon=True)

    @property
    def held(self) -> list[int]:
        """The trials held, by their id."""
        return sorted(self._held)

    @property
    def may_judge(self) -> bool:
        """Whether this driver has been in touch for long enough to call another one silent."""
        return self._gap_s is None or self._clock() - self._gap_s >= self._grace_s

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; leases are not renewed any more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * LONGEST_PAUSE_S)

    def hold(self, trial_id: int) -> None:
        """Renew the lease of a trial from now on."""
        self._held.add(trial_id)

    def drop(self, trial_id: int) -> None:
        """Do not renew it any more."""
        self._held.discard(trial_id)

    def is_lost(self, trial_id: int) -> bool:
        """Return whether a renewal has found that the trial was taken away."""
        return trial_id in self._lost

    def renew(self) -> None:
        """Renew all leases now.

        Raises:
            StudyError: the database is away; the leases may end.
        """
        lost = self._renew(self.held)
        self._lost |= lost
        self._held -= lost
        now = self._clock()
        if now - self._contact_s > self._grace_s:
            self._gap_s = now
        self._contact_s = now

    def _run(self) -> None:
        pause_s = self._every_s
        while not self._ended.wait(pause_s):
            try:
                self.renew()
            except (KeyError, StudyError):
                # The trials train on, and their leases are renewed as soon as the database is back. KeyError: somebody
                # has deleted the study, which the driver hears when it asks.
                pause_s = min(self._every_s, LONGEST_PAUSE_S)
            else:
                pause_s = self._every_s
