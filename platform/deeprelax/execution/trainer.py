"""A run's config on Ray. Ray itself is imported only once its environment is pinned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from deeprelax import env
from deeprelax.config import RunConfig
from deeprelax.replica.checkpoint import newest, read_tensors
from deeprelax.replica.loop import Event

if find_spec("ray") is None:
    raise ImportError("No module named 'ray'")


def run_on_ray(
    config: RunConfig,
    job: Mapping[str, object],
    take: Callable[[Event], None],
    *,
    verbose: bool = False,
    first_bundle: int | None = None,
    cut: threading.Event | None = None,
) -> bool:
    """Train all replicas on Ray Train workers; return whether the run was stopped before its end.

    Args:
        config: resolved.
        job: what :func:`deeprelax.execution.entry.make_job` returned.
        take: takes events, in this thread.
        verbose: let Ray talk.
        first_bundle: see :class:`deeprelax.execution.cluster.Placement`.
        cut: see :func:`deeprelax.execution.launch.launch`.

    Raises:
        AdmissionError: the replicas do not fit the cluster.
        DeepRelaxError: what a replica's loop raised, or that too many workers were lost.
    """
    env.pin(loopback=config.address is None, verbose=verbose)
    from deeprelax.exchange.server.servers import CenterState
    from deeprelax.execution.cluster import Placement
    from deeprelax.execution.launch import Tolerance, launch

    coupling = config.make_coupling()
    checkpoints = Path(str(job["checkpoints"]))
    saved = newest(checkpoints)
    restored = CenterState()
    if saved is not None:
        tensors = read_tensors(saved.path / "exchange.safetensors")
        restored = CenterState(tensors=tensors, step=saved.exchange_step, exchanges=saved.exchanges)
    placement = Placement(
        replicas=config.min_replicas or coupling.replicas,
        most=coupling.replicas,
        cpus_per_replica=config.cpus_per_replica,
        gpus_per_replica=config.gpus_per_replica,
        address=config.address,
        first_bundle=first_bundle,
        verbose=verbose,
    )
    tolerance = Tolerance(
        max_failures=config.max_failures,
        elastic=coupling.survives_loss,
        servers_return=coupling.survives_server_loss,
    )
    transport = "server" if coupling.sends == "elastic" else config.exchange  # pulls do not go through memory
    asked = launch(job, placement, tolerance, take, transport=transport, restored=restored, cut=cut)
    last = newest(checkpoints)
    return asked and (last is None or last.step < (config.steps or 0))
