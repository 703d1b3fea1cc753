"""Replicas beyond the fewest that a run starts with: they come and go as the cluster has room.

A worker group of Ray Train has a fixed size. These are plain actors instead, which run the same loop: an actor waits in
Ray's queue until there is room (and tells an autoscaler so), joins at the center, and if its process dies another one
waits. Nobody waits for any of them. Actors and not tasks, because a task gives its CPU away while it waits for a reply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import ray
from ray import ObjectRef
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayError

from deeprelax.execution.notice import listen
from deeprelax.execution.worker import Assignment, run_replica

if TYPE_CHECKING:
    from deeprelax.exchange.server.coordinator import Row

_CAME, _WENT = ("joined", "rejoined"), ("lost", "left", "finished", "quarantined")


class GrownReplica:
    """The process of one replica."""

    @ray.method
    def run(self, given: Assignment, replica: int) -> bool:
        """Run the replica to its end; return False if it was told to end before."""
        listen()
        return run_replica(given, replica)


class Growth:
    """The replicas beyond the fewest; they begin to wait for room once the fewest are there.

    Args:
        given: to every replica.
        fewest: replicas that the run starts with: 0, 1, …
        resources: that each reserves, by Ray's names.
        runtime_env: Ray's, for clusters that do not have this package installed.
        max_failures: deaths of each after which it is given up.
    """

    def __init__(
        self,
        given: Assignment,
        fewest: int,
        resources: Mapping[str, float],
        runtime_env: Mapping[str, object],
        max_failures: int,
    ) -> None:
        self._given = given
        self._make = ray.remote(
            num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0.0), runtime_env=dict(runtime_env)
        )(GrownReplica)
        self._max_failures = max_failures
        self._begun = self._over = False
        self._deaths: Counter[int] = Counter()
        self._live: set[int] = set()
        self._running: dict[ObjectRef[bool], tuple[int, ActorProxy[GrownReplica]]] = {}
        self._first = frozenset(range(fewest))
        self._waiting = list(range(fewest, given["replicas"]))

    @property
    def busy(self) -> bool:
        """Whether any of them takes part in the run."""
        return bool(self._live - self._first)

    def hear(self, row: Row) -> None:
        """Follow who takes part."""
        if row["event"] in _CAME:
            self._live.add(int(str(row["replica"])))
        elif row["event"] in _WENT:
            self._live.discard(int(str(row["replica"])))
        if row["event"] == "finished":
            self._over = True

    def look(self) -> None:
        """Let replicas wait for room: all once the fewest are there, later those that have died or were told to end."""
        self._begun = self._begun or self._first <= self._live
        if not self._begun:
            return
        if self._over:
            self._turn_away()
        else:
            self._start()
        runs = list(self._running)
        ended, _ = ray.wait(runs, num_returns=len(runs), timeout=0) if runs else ([], [])
        for run in ended:
            replica, _ = self._running.pop(run)
            try:
                finished = ray.get(run)
            except RayError:
                finished = False
                self._deaths[replica] += 1
                self._given["servers"][0].lose.remote(replica)
            if not finished and self._deaths[replica] <= self._max_failures:
                self._waiting.append(replica)

    def close(self) -> None:
        """End them."""
        for _, actor in self._running.values():
            _end(actor)

    def _turn_away(self) -> None:
        """End those who wait for room: the others have finished, and what room they leave is for the next."""
        for run, (replica, actor) in list(self._running.items()):
            if replica not in self._live:
                del self._running[run]
                _end(actor)
                self._given["servers"][0].lose.remote(replica)  # it may just have joined
        self._waiting.clear()

    def _start(self) -> None:
        for replica in self._waiting:
            actor = self._make.remote()
            self._running[actor.run.remote(self._given, replica)] = replica, actor
        self._waiting.clear()


def _end(actor: ActorProxy[GrownReplica]) -> None:
    assert isinstance(actor, ActorHandle)
    with suppress(RayError):
        ray.kill(actor)
