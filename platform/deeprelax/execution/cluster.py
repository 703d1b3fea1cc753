"""The Ray cluster of a run: joined or started, checked for room, and left as it was found."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import ray

from deeprelax.errors import AdmissionError, ConfigError

REPLICAS_PER_CORE = 4
"""Replicas that a cluster of our own takes per core: more than one trains slowly, but it trains."""

CONNECT_TIMEOUT_S = 5.0
"""Seconds that a cluster at an address has to accept a connection."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What a run asks of a cluster.

    Args:
        replicas: n, one worker each; the fewest of a run that grows.
        most: replicas of a run that grows as the cluster has room; None: as many as there are.
        cpus_per_replica: logical CPUs a worker reserves, > 0.
        gpus_per_replica: GPUs a worker reserves; None: 1 if the cluster has enough for all, else 0.
        address: of a running cluster; None uses the one this process is connected to, or else starts one of its own.
        runtime_env: Ray's, for clusters that do not have this package: ship the wheel by ``py_modules``, never
            ``working_dir``.
        first_bundle: None reserves the workers. A number: they are reserved, and take the bundles from that one on of
            the placement group that this process is in; see :mod:`deeprelax.execution.reserved`.
        verbose: let Ray talk.
    """

    replicas: int
    most: int | None = None
    cpus_per_replica: float = 1.0
    gpus_per_replica: float | None = None
    address: str | None = None
    runtime_env: Mapping[str, object] | None = None
    first_bundle: int | None = None
    verbose: bool = False

    @property
    def all(self) -> int:
        """Return n, however many there are at a time."""
        return self.replicas if self.most is None else self.most


@dataclass(frozen=True)
class Room:
    """What the cluster gives the run.

    Args:
        resources: of each worker, by Ray's names.
        own: the cluster was started for this run and ends with it.
        first_bundle: the placement's.
        runtime_env: what servers and workers still need of the placement's; nothing if the connection was made with it.
    """

    resources: dict[str, float]
    own: bool = False
    first_bundle: int | None = None
    runtime_env: dict[str, object] = field(default_factory=dict)


@contextmanager
def connected(placement: Placement) -> Iterator[Room]:
    """Hold a connection to a cluster with room for the run.

    Raises:
        AdmissionError: the replicas do not fit.
        ConfigError: there is no cluster at the address, or another one is in use.
    """
    # Logical CPUs of an own cluster: what the workers reserve, and one for the user's own tasks.
    cpus = math.ceil(placement.all * placement.cpus_per_replica) + 1
    if placement.address is None and not ray.is_initialized():
        _refuse_too_many(placement.all)
    with connection(placement.address, cpus, runtime_env=placement.runtime_env, verbose=placement.verbose) as made:
        own = made and placement.address is None
        room = Room(resources_of(placement), own=own, first_bundle=placement.first_bundle)
        yield room if made else replace(room, runtime_env=dict(placement.runtime_env or {}))


@contextmanager
def connection(
    address: str | None, cpus: int, *, runtime_env: Mapping[str, object] | None = None, verbose: bool = False
) -> Iterator[bool]:
    """Hold a connection to a cluster; yield whether it was made now, with ``runtime_env``, and not found.

    Args:
        address: of a running cluster; None uses the one this process is connected to, or else starts one of its own.
        cpus: logical CPUs of an own cluster.
        runtime_env: see :class:`Placement`.
        verbose: let Ray talk.

    Raises:
        ConfigError: there is no cluster at the address, or another one is in use.
    """
    if ray.is_initialized():
        if address is not None:
            raise ConfigError(
                f"Invalid address={address!r}: this process is connected to a cluster already. Leave address"
                " out to use that one, or call ray.shutdown() first."
            )
        yield False
        return
    on_terminate = signal.getsignal(signal.SIGTERM)
    environment = dict(runtime_env or {})
    if address is None:
        with _importable():
            _init("local", cpus, environment, verbose=verbose)
    else:
        _join(address, environment, verbose=verbose)
    try:
        yield True
    finally:
        ray.shutdown()
        # ray.init puts a handler of its own there
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)


def alive_nodes() -> list[dict[str, float]]:
    """Return the resources of every living node of the connected cluster, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def resources_of(placement: Placement) -> dict[str, float]:
    """Return the resources of each worker on the connected cluster.

    Raises:
        AdmissionError: the replicas are not reserved yet and do not fit; says what is missing and how to go on.
    """
    nodes = alive_nodes()
    gpus = placement.gpus_per_replica
    if gpus is None:
        gpus = 1.0 if sum(node.get("GPU", 0.0) for node in nodes) >= placement.replicas else 0.0
    asked = {"CPU": placement.cpus_per_replica} | ({"GPU": gpus} if gpus else {})
    if placement.first_bundle is not None:
        return asked
    room = sum(min(_fits(node.get(name, 0.0), amount) for name, amount in asked.items()) for node in nodes)
    if room < placement.replicas:
        raise AdmissionError(_no_room(placement.replicas, room, asked, nodes))
    return asked


def _fits(has: float, amount: float) -> int:
    return math.floor(has / amount + 1e-9)  # three times 0.1 fit 0.3


def _no_room(replicas: int, room: int, asked: Mapping[str, float], nodes: list[dict[str, float]]) -> str:
    has = {name: sum(node.get(name, 0.0) for node in nodes) for name in asked}
    missing = {name: max(0.0, replicas * amount - has[name]) for name, amount in asked.items()}
    short = ", ".join(f"{amount:g} {name}" for name, amount in missing.items() if amount) or "larger nodes"
    each = " and ".join(f"{amount:g} {name}" for name, amount in asked.items())
    fix = f"Use at most {room} replicas" if room else "Ask for less per replica (cpus_per_replica, gpus_per_replica)"
    return (
        f"Invalid replicas={replicas}. At {each} each the cluster has room for {room}; missing: {short}. "
        f"{fix}, add nodes, or train in this process (local=True, --local)."
    )


def _refuse_too_many(replicas: int) -> None:
    cores = len(os.sched_getaffinity(0))
    most = REPLICAS_PER_CORE * cores
    if replicas > most:
        raise AdmissionError(
            f"Invalid replicas={replicas}. This machine has {cores} cores and takes at most {most} replicas. "
            "Use fewer, the address of a larger cluster, or train in this process (local=True, --local)."
        )


def _join(address: str, runtime_env: dict[str, object], *, verbose: bool) -> None:
    try:
        _reach(address)
        _init(address, None, runtime_env, verbose=verbose)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"Invalid address={address!r}: {error}. Must be HOST:PORT of a running cluster, as `ray start --head`"
            " prints it, or 'auto' on one of its nodes."
        ) from None


def _reach(address: str) -> None:
    """Fail at once where Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or "/" in host or not port.isdigit():
        raise OSError("it is no HOST:PORT")
    with socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S):
        pass


def _init(address: str, num_cpus: int | None, runtime_env: dict[str, object], *, verbose: bool) -> None:
    ray.init(
        address=address,
        num_cpus=num_cpus,
        include_dashboard=False if address == "local" else None,
        log_to_driver=verbose,
        logging_level=logging.INFO if verbose else logging.ERROR,
        runtime_env=runtime_env,
    )


@contextmanager
def _importable() -> Iterator[None]:
    """Let the workers of a cluster started now import what this process can."""
    paths = sysconfig.get_paths()
    known = tuple({paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    own = [path for path in sys.path if path and not path.startswith(known) and not path.endswith(".zip")]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(own)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
