"""The driver's view of who takes part: what has befallen them, what they computed, which checkpoints are whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from deeprelax.replica.loop import Event

_CAME, _WENT = ("joined", "rejoined"), ("lost", "left", "finished", "quarantined")
INCIDENTS = ("lost", "rejoined", "restarted", "quarantined", "server_restarted", "leaving", "left")
"""Events about members that a person is told of, and that are counted."""


class Members:
    """Follows the members of a run by their events.

    Args:
        first: replicas that the run starts with.
        incidents: how often each event has happened in earlier parts of a resumed run.
        step: where the run starts or was resumed.

    Attributes:
        incidents: the same, up to now.
        evaluations: gradients that the replicas have computed since ``step``.
    """

    def __init__(self, first: int, incidents: Mapping[str, int], step: int) -> None:
        self.incidents = Counter(incidents)
        self.evaluations = 0
        self._live = set(range(first))
        self._start = step
        self._at: dict[int, int] = {}
        self._saved: dict[int, set[int]] = {}

    def hear(self, event: Event) -> str | None:
        """Take an event about members; return what to show a person, if anything."""
        kind, step = str(event["event"]), int(str(event["step"]))
        replica = int(str(event.get("replica", -1)))
        if kind in _CAME:
            self._live.add(replica)
            self._at[replica] = step
        elif kind in _WENT:
            self._live.discard(replica)
        if kind not in INCIDENTS:
            return None
        self.incidents[kind] += 1
        who = "the run" if replica < 0 else f"replica {replica}"
        return f"{who}: {kind.replace('_', ' ')} at step {step}"

    def worked(self, replica: int, step: int) -> None:
        """Take where a replica has come to."""
        before = self._at.get(replica, self._start)
        if step > before:
            self.evaluations += step - before
            self._at[replica] = step

    def saved(self, replica: int, step: int) -> None:
        """Take that a replica has written its part of a checkpoint."""
        self._saved.setdefault(step, set()).add(replica)

    def whole(self) -> int | None:
        """Return the step of a checkpoint that has become whole, once: all who take part and replica 0 have written.

        Whoever joined later, or was lost before it had written, is a newcomer when the run is resumed.
        """
        for step in sorted(self._saved, reverse=True):
            if self._live | {0} <= self._saved[step]:
                self._saved = {later: parts for later, parts in self._saved.items() if later > step}
                return step
        return None
