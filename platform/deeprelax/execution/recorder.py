"""The driver's view of a run: takes events, keeps the logs, completes checkpoints, knows the latest numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Protocol, cast, get_args

from deeprelax.config import RunConfig
from deeprelax.coupling.message import Phase
from deeprelax.execution.members import INCIDENTS, Members
from deeprelax.execution.store import RunStore
from deeprelax.replica import checkpoint
from deeprelax.replica.loop import Event

Numbers = Mapping[str, float]
_SENT, _RECEIVED = "exchange/bytes_sent", "exchange/bytes_received"
_SLOWER = {
    "vectorize": "replicas one by one: {reason}",
    "transport": "replica {replica} not through shared memory: {reason}",
}
_ABOUT_MEMBERS = ("joined", "finished", *INCIDENTS)


class Display(Protocol):
    """Shows a run to a person."""

    def evaluated(self, row: Numbers) -> None:
        """Show an evaluation of the center."""
        ...

    def moved(self, row: Numbers) -> None:
        """Show where the run is."""
        ...

    def happened(self, text: str) -> None:
        """Show something that is not a number: a replica lost or back."""
        ...


class Recorder:
    """Takes events.

    Args:
        store: the run's folder.
        config: resolved.
        display: shows the numbers.
        earlier: what the run had cost before it was resumed.

    Attributes:
        members: who takes part, and what has befallen them.
    """

    def __init__(self, store: RunStore, config: RunConfig, display: Display, earlier: Numbers | None = None) -> None:
        self.store = store
        self.config = config
        self.display = display
        self.replicas = config.make_coupling().replicas
        self.evaluation: dict[str, float] = {}
        self.endings: dict[str, list[dict[str, float]]] = {"replica": [], "ensemble": []}
        self._earlier = dict(earlier or {})
        self.members = Members(
            config.min_replicas or self.replicas,
            {kind: len(store.rows(kind)) for kind in INCIDENTS},
            int(self._earlier.get("gradient_evaluations_per_replica", 0)),
        )
        self._began = time.monotonic()
        self._latest = _last_rows(store)
        self._at: dict[int, tuple[int, int]] = {}
        self._ended: list[Numbers] = []

    def take(self, event: Event) -> None:
        """Record one event, with the seconds of the run at which it was heard."""
        kind = str(event["event"])
        if kind == "checkpoint":
            self._checkpoint(event)
            return
        if kind == "counted":
            self._latest[cast("int", event["replica"])] |= _numbers(event)
            return
        event = event | {"seconds": self._seconds()}
        if kind == "evaluation":
            event = event | self.state()
        self.store.log(event)
        if kind == "telemetry":
            self._learn(cast("int", event["replica"]), _numbers(event))
            self.display.moved(self.state() | {"step": cast("float", event["step"])})
        elif kind == "evaluation":
            self.evaluation = _numbers(event)
            self.display.evaluated(self.evaluation)
        elif kind in self.endings:
            self.endings[kind].append(_numbers(event))
        elif kind in _SLOWER and event["reason"]:
            self.display.happened(_SLOWER[kind].format(**event))
        elif kind in _ABOUT_MEMBERS:
            text = self.members.hear(event)
            if text is not None:
                self.display.happened(text)
            self._complete()

    def state(self) -> dict[str, float]:
        """Return the latest numbers over all replicas: training loss, spread, schedules, cost."""
        rows = list(self._latest.values())
        merged: dict[str, float] = {
            name: value for row in rows[:1] for name, value in row.items() if name.startswith("coupling/")
        }
        losses = [row["replica/loss"] for row in rows if "replica/loss" in row]
        if losses:
            merged["train/loss"] = sum(losses) / len(losses)
        if rows and rows[0].get("replica/center_norm"):
            distances = [row["replica/distance"] for row in rows if "replica/distance" in row]
            mean_square = sum(distance**2 for distance in distances) / len(distances)
            merged["replica/spread"] = math.sqrt(mean_square) / rows[0]["replica/center_norm"]
        merged |= {f"members/{kind}": float(count) for kind, count in self.members.incidents.items() if count}
        return merged | {"exchange/bytes_total": self._bytes(), "seconds": self._seconds()}

    def cost(self) -> dict[str, float]:
        """Return what the run has cost so far, earlier parts of a resumed run included."""
        step = max((row["step"] for row in self._latest.values()), default=0.0)
        step = max(step, self._earlier.get("gradient_evaluations_per_replica", 0.0))
        waits = [row.get("exchange/wait_s", 0.0) for row in self._latest.values()]
        return {
            "gradient_evaluations_per_replica": step,
            "gradient_evaluations_total": self._earlier.get("gradient_evaluations_total", 0.0)
            + self.members.evaluations,
            "data_passes": step * self.config.epochs / (self.config.steps or 1),
            "bytes_exchanged": self._bytes(),
            **{f"bytes_{phase}": self._bytes_of(phase) for phase in get_args(Phase)},
            "wait_s": self._earlier.get("wait_s", 0.0) + (sum(waits) / len(waits) if waits else 0.0),
            "seconds": self._seconds(),
        }

    def _checkpoint(self, event: Event) -> None:
        replica, step = cast("int", event["replica"]), cast("int", event["step"])
        self._learn(replica, self._latest.get(replica, {}) | _numbers(event))
        self._at[step] = cast("int", event["exchanges"]), cast("int", event["elapsed"])
        self.members.saved(replica, step)
        self._complete()

    def _complete(self) -> None:
        """Declare the checkpoint that has become whole, if any."""
        step = self.members.whole()
        if step is None:
            return
        exchanges, elapsed = self._at.pop(step)
        checkpoint.complete(
            self.store.checkpoints,
            step=step,
            exchanges=exchanges,
            elapsed=elapsed,
            replicas=self.replicas,
            cost=self.cost(),
        )
        checkpoint.prune(self.store.checkpoints, self.config.keep_checkpoints)

    def _learn(self, replica: int, numbers: dict[str, float]) -> None:
        before = self._latest.get(replica, {})
        if numbers.get(_SENT, 0.0) < before.get(_SENT, 0.0):  # another process, whose counters began at zero
            self._ended.append(before)
        self._latest[replica] = numbers
        self.members.worked(replica, int(numbers["step"]))

    def _bytes(self) -> float:
        counted = sum(row.get(_SENT, 0.0) + row.get(_RECEIVED, 0.0) for row in (*self._latest.values(), *self._ended))
        return self._earlier.get("bytes_exchanged", 0.0) + counted

    def _bytes_of(self, phase: Phase) -> float:
        counted = sum(row.get(f"exchange/{phase}_bytes", 0.0) for row in (*self._latest.values(), *self._ended))
        return self._earlier.get(f"bytes_{phase}", 0.0) + counted

    def _seconds(self) -> float:
        return self._earlier.get("seconds", 0.0) + time.monotonic() - self._began


def _last_rows(store: RunStore) -> dict[int, dict[str, float]]:
    """Return the last telemetry of each replica before a resume; its traffic is part of the earlier cost."""
    rows = {cast("int", row["replica"]): _numbers(row) for row in store.rows("telemetry")}
    return {a: {k: v for k, v in row.items() if not k.startswith("exchange/")} for a, row in rows.items()}


def _numbers(event: Event) -> dict[str, float]:
    return {name: float(value) for name, value in event.items() if isinstance(value, int | float)}
