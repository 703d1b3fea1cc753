"""How many trials fit a cluster at once, and whether one fits at all: arithmetic on numbers, without a cluster.

A trial asks for processes, each of which must find its resources on one node. All of a trial's processes are placed
together or not at all: Ray Tune reserves them as one placement group before the trial begins. So a trial that has begun
can always end, and no sweeps can block each other. The numbers here only keep trials from being begun in vain.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from deeprelax.errors import AdmissionError

Resources = Mapping[str, float]
"""Amounts by Ray's names, such as ``{"CPU": 2.0, "GPU": 0.5}``."""

_EXACT = 1e-9  # three times 0.1 fit 0.3


@dataclass(frozen=True)
class Shape:
    """What one trial asks for.

    Args:
        parts: of each of its processes (replicas, servers, its driver); those that ask for nothing fit anywhere.
        fix: what a user can do if it does not fit.
    """

    parts: tuple[Resources, ...]
    fix: str = field(default="Ask for less a trial (cpus_per_trial, gpus_per_trial)", compare=False)

    @property
    def total(self) -> dict[str, float]:
        """Return the sum over the processes."""
        names = {name for part in self.parts for name in part}
        return {name: sum(part.get(name, 0.0) for part in self.parts) for name in sorted(names)}

    @property
    def asking(self) -> list[Resources]:
        """Return the processes that ask for something, the largest first."""
        asked = [{name: amount for name, amount in part.items() if amount} for part in self.parts]
        return sorted(filter(None, asked), key=lambda part: (-len(part), -sum(part.values())))


def shape_of(cpus_per_trial: float, gpus_per_trial: float) -> Shape:
    """Return what a trial of a sweep asks for: one process, in which all replicas of all its seeds take turns."""
    return Shape(({"CPU": cpus_per_trial, "GPU": gpus_per_trial},))


def shape_on_workers(worker: Resources, workers: int) -> Shape:
    """Return what a trial asks for whose replicas have a worker each, over all its seeds.

    Its driver and its center servers are 0 CPU: they wait while the workers compute.
    """
    fix = "Use fewer replicas or seeds, less a worker (cpus_per_replica, gpus_per_replica), placement='local'"
    return Shape((worker,) * workers, fix)


def own_node() -> dict[str, float]:
    """Return the resources of the cluster that a sweep would start on this machine: its cores and its GPUs."""
    gpus = float(torch.cuda.device_count())
    return {"CPU": float(len(os.sched_getaffinity(0)))} | ({"GPU": gpus} if gpus else {})


def concurrency(nodes: Sequence[Resources], shape: Shape, beside: Sequence[Shape] = ()) -> int:
    """Return how many trials of ``shape`` run at once on ``nodes``, in what the trials ``beside`` leave.

    Trials are placed one after the other until the next one finds no room, so no further one could run in what is left.
    Processes that are all alike take the same room wherever they are placed, and the number is exact; of different
    ones Ray may place some so that one trial fewer fits, which then waits until another ends.

    Raises:
        AdmissionError: the trial asks for nothing: any number would fit.
    """
    parts = shape.asking
    if not parts:
        raise AdmissionError("Invalid shape of a trial: it asks for nothing. Must ask for some CPU or GPU.")
    others = [part for other in beside for part in other.asking]
    if all(part == parts[0] for part in [*parts, *others]):
        return max(0, sum(_fits(node, parts[0]) for node in nodes) - len(others)) // len(parts)
    left, count = [dict(node) for node in nodes], 0
    for other in beside:
        place(left, other.asking)  # one that finds no room was on a node that has gone
    while place(left, parts):
        count += 1
    return count


def require_room(nodes: Sequence[Resources], shape: Shape) -> int:
    """Return :func:`concurrency` if it is not 0.

    Raises:
        AdmissionError: not even one trial fits; says what is missing.
    """
    most = concurrency(nodes, shape)
    if most:
        return most
    has = {name: sum(node.get(name, 0.0) for node in nodes) for name in shape.total}
    missing = {name: amount - has[name] for name, amount in shape.total.items() if amount > has[name] + _EXACT}
    raise AdmissionError(
        f"Invalid trial of {_written(shape.total)}: no trial would ever start. The cluster has {_written(has)} on "
        f"{len(nodes)} nodes; missing: {_written(missing) or 'a node that holds one of its processes'}. "
        f"{shape.fix}, or add nodes."
    )


def place(left: list[dict[str, float]], parts: Sequence[Resources]) -> bool:
    """Take one trial's resources from ``left``, each process from the first node that has them; or else nothing.

    Args:
        left: what every node has left; changed.
        parts: of the trial, the largest first.
    """
    taken: list[tuple[dict[str, float], Resources]] = []
    for part in parts:
        node = next((node for node in left if _fits(node, part)), None)
        if node is None:
            for full, back in taken:
                _add(full, back, 1.0)
            return False
        _add(node, part, -1.0)
        taken.append((node, part))
    return True


def _fits(node: Resources, part: Resources) -> int:
    """Return how many processes like ``part`` fit on ``node``."""
    return min(math.floor(node.get(name, 0.0) / amount + _EXACT) for name, amount in part.items())


def _add(node: dict[str, float], part: Resources, sign: float) -> None:
    for name, amount in part.items():
        node[name] += sign * amount


def _written(amounts: Resources) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in amounts.items())
