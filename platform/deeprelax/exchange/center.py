"""The center x̄ and the mean that moves it; the same arithmetic, in the same order, wherever the center lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deeprelax.coupling.message import CenterStep, Slice

Vectors = Sequence[Tensor]


def mean_of(members: Sequence[Vectors]) -> list[Tensor]:
    """Return the elementwise mean of the members' vectors, summed in the order given, so that arrival does not matter.

    Args:
        members: one sequence of flat tensors per member; all alike in number, shape and dtype.
    """
    first, *rest = members
    sums = [vector.clone() for vector in first]
    for vectors in rest:
        for total, vector in zip(sums, vectors, strict=True):
            total.add_(vector)
    if rest:
        for total in sums:
            total.div_(len(members))
    return sums


def mean_scalars(members: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the means of equally long tuples of numbers."""
    return tuple(sum(column) / len(members) for column in zip(*members, strict=True))


class Center:
    """The center and its momentum, one flat tensor each per dtype.

    Holds one copy of the parameters, a second one once a step with momentum was made, and one more with a codec.

    Attributes:
        known: with a codec, the center as the replicas know it; empty while they know it exactly.
        unsaid: of means that travelled with a codec, what the replicas have not been told yet.
    """

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = [vector.detach().clone() for vector in vectors]
        self.velocity: list[Tensor] = []
        self.known: list[Tensor] = []
        self.unsaid: list[Tensor] = []

    def advance(self, mean: Vectors, steps: Sequence[CenterStep]) -> None:
        """Move the center towards ``mean``, each vector by its own :class:`CenterStep`."""
        self.prepare(steps, coded=False)
        for i, (center, target, step) in enumerate(zip(self.vectors, mean, steps, strict=True)):
            if step.is_mean:
                center.copy_(target)
                continue
            gap = center - target
            if step.momentum:
                self.velocity[i].mul_(step.momentum).add_(gap)
                gap.add_(self.velocity[i], alpha=step.momentum)
            center.sub_(gap, alpha=step.lr)

    def part(self, slices: Sequence[Slice]) -> Center:
        """Return the center of some elements, the first vectors' ``slices``; what moves there moves here."""
        part = Center([])
        for name in ("vectors", "velocity", "known", "unsaid"):
            whole = getattr(self, name)
            setattr(part, name, [v[begin:end] for v, (begin, end) in zip(whole, slices, strict=False)])
        return part

    def prepare(self, steps: Sequence[CenterStep], *, coded: bool) -> None:
        """Allocate what a step needs: its momentum, and with a codec what the replicas know, which is all so far."""
        if any(step.momentum for step in steps) and not self.velocity:
            self.velocity = [torch.zeros_like(vector) for vector in self.vectors]
        if coded and not self.known:
            self.known = [vector.clone() for vector in self.vectors]

    def state(self) -> dict[str, Tensor]:
        """Return the named tensors that restore this center: ``center.<i>``, ``velocity.<i>``, and so on."""
        series = {"center": self.vectors, "velocity": self.velocity, "known": self.known, "unsaid": self.unsaid}
        return {f"{name}.{i}": vector for name, vectors in series.items() for i, vector in enumerate(vectors)}

    @classmethod
    def restored(cls, state: Mapping[str, Tensor]) -> Center:
        """Return the center saved by :meth:`state`."""
        center = cls(_series(state, "center"))
        for name in ("velocity", "known", "unsaid"):
            setattr(center, name, [vector.clone() for vector in _series(state, name)])
        return center


def _series(state: Mapping[str, Tensor], name: str) -> list[Tensor]:
    count = sum(key.startswith(f"{name}.") for key in state)
    return [state[f"{name}.{i}"] for i in range(count)]
