"""One run on Ray: the center server and the workers, started and ended."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deeprelax.exchange.choice import Transport
from deeprelax.exchange.server.coordinator import LEASE_S, ROUND_TIMEOUT_S, Row, Rules
from deeprelax.exchange.server.servers import CenterServers, CenterState
from deeprelax.execution.cluster import Placement, connected
from deeprelax.execution.entry import ENTRY


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What a run endures.

    Args:
        max_failures: lost workers that are replaced before the run gives up; likewise deaths of each server, and
            weights that are refused.
        elastic: a lost replica alone is replaced and the others go on; otherwise all start again.
        servers_return: a dead server is restarted and told the center; otherwise its death ends the run.
        lease_s: see :data:`LEASE_S`.
        round_timeout_s: see :data:`ROUND_TIMEOUT_S`.
    """

    max_failures: int = 3
    elastic: bool = True
    servers_return: bool = True
    lease_s: float = LEASE_S
    round_timeout_s: float = ROUND_TIMEOUT_S

    def rules(self, replicas: int, start: int | None = None) -> Rules:
        """Return the center server's rules for ``replicas``, of which ``start`` must be there before it begins."""
        elastic = self.elastic and replicas > 1
        return Rules(
            replicas=replicas,
            start=start,
            elastic=elastic,
            lease_s=self.lease_s,
            round_timeout_s=self.round_timeout_s,
            max_refused=self.max_failures,
        )


def launch(
    job: Mapping[str, object],
    placement: Placement,
    tolerance: Tolerance,
    take: Callable[[Row], None],
    *,
    entry: str = ENTRY,
    transport: Transport = "auto",
    restored: CenterState | None = None,
    parameter_bytes: int = 0,
    cut: threading.Event | None = None,
) -> bool:
    """Train n replicas on Ray Train workers to their end; return whether the run was asked to stop.

    The first Ctrl-C, and SIGTERM, lets every replica reach its next exchange, save and end; a second Ctrl-C aborts.
    Whatever this started (servers, workers, a cluster) has ended when it returns or raises.

    Args:
        job: plain JSON values from which a worker builds its replica; ``checkpoints`` is the folder it continues from,
            ``threads`` torch's threads on each worker.
        placement: where.
        tolerance: what the run endures.
        take: called in this thread with every row the replicas emit and with the server's rows about its members:
            ``joined``, ``lost``, ``quarantined``, ``leaving``, ``left``, ``rejoined``, ``finished``, and of the whole
            group ``restarted``; ``server_restarted`` about itself; last with its ``traffic``: the bytes that arrived
            there and left, which are those that left the replicas and arrived there unless one, or a server, was lost.
        entry: ``module:function`` that returns a replica's loop; see :func:`deeprelax.execution.entry.replica_loop`.
        transport: see :data:`deeprelax.exchange.choice.Transport`.
        restored: the center of a resumed run.
        parameter_bytes: see :meth:`CenterServers.start`.
        cut: set by another thread to end the run at once, without saving.

    Raises:
        AdmissionError: the replicas do not fit the cluster.
        DeepRelaxError: what a replica's loop raised, or that too many workers were lost.
        ExchangeError: the center server is gone.
    """
    with connected(placement) as room, tempfile.TemporaryDirectory(prefix="deeprelax-") as scratch:
        servers = CenterServers.start(
            tolerance.rules(placement.all, placement.replicas),
            restored=restored,
            parameter_bytes=parameter_bytes,
            max_restarts=tolerance.max_failures if tolerance.servers_return else 0,
            runtime_env=room.runtime_env,
        )
        try:
            # Takes a second in which the servers start.
            from deeprelax.execution.fit import Fit
            from deeprelax.execution.growth import Growth
            from deeprelax.execution.watch import watch
            from deeprelax.execution.worker import Assignment

            given = Assignment(
                entry=entry,
                job=dict(job),
                servers=(servers.handles.head, servers.handles.shards),
                replicas=placement.all,
                transport=transport,
                round_timeout_s=tolerance.round_timeout_s,
                device="cuda" if "GPU" in room.resources else "cpu",
            )
            fit = Fit(given, placement.replicas, tolerance, room, scratch, verbose=placement.verbose)
            growth = Growth(given, placement.replicas, room.resources, room.runtime_env, tolerance.max_failures)
            stopped = watch(fit, growth, servers, take, tolerance.max_failures, cut or threading.Event())
            counted = servers.traffic()
            bytes_ = {"arrived_bytes": counted.bytes_received, "left_bytes": counted.bytes_sent}
            take({"event": "traffic", "replica": None, **bytes_})
            return stopped
        finally:
            servers.close()
