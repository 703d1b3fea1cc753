"""The center x̄ and the mean that moves it; the same arithmetic, in the same order, wherever the center lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from deeprelax.coupling.message import CenterStep, Slice

Vectors = Sequence[Tensor]
Move = Callable[[], None]

_BLOCK_ELEMENTS = 1 << 18  # of float32: 1 MB, so that what is computed in between stays in a core's cache


def mean_of(members: Sequence[Vectors]) -> list[Tensor]:
    """Return the elementwise mean of the members' vectors, summed in the order given, so that arrival does not matter.

    Args:
        members: one sequence of flat tensors per member; all alike in number, shape and dtype.
    """
    return [_mean(said, torch.empty_like(said[0])) for said in zip(*members, strict=True)]


def _mean(said: Vectors, out: Tensor) -> Tensor:
    first, *rest = said
    if not rest:
        return out.copy_(first)
    torch.add(first, rest[0], out=out)
    for vector in rest[1:]:
        out.add_(vector)
    return out.div_(len(said))


def mean_scalars(members: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the means of equally long tuples of numbers."""
    return tuple(sum(column) / len(members) for column in zip(*members, strict=True))


class Center:
    """The center and its momentum, one flat tensor each per dtype.

    Holds one copy of the parameters, a second one once a step with momentum was made, and one more with a codec.

    Attributes:
        vectors: where the center lies; another place may be set that holds the same values.
        velocity: its momentum.
        known: with a codec, the center as the replicas know it; empty while they know it exactly.
        unsaid: of means that travelled with a codec, what the replicas have not been told yet.
        make: makes the moves of a step, which do not depend on each other.
    """

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = [vector.detach().clone() for vector in vectors]
        self.velocity: list[Tensor] = []
        self.known: list[Tensor] = []
        self.unsaid: list[Tensor] = []
        self.make: Callable[[Sequence[Move]], None] = make_in_turn

    def advance(self, mean: Vectors, steps: Sequence[CenterStep]) -> None:
        """Move the center towards ``mean``, each vector by its own :class:`CenterStep`."""
        self.meet([mean], steps)

    def meet(self, members: Sequence[Vectors], steps: Sequence[CenterStep]) -> None:
        """Move the center towards the mean of the members, each vector by its own :class:`CenterStep`.

        On a CPU this goes block by block; no element depends on another one, so blocks change no number.
        """
        self.prepare(steps, coded=False)
        moves: list[Move] = []
        for i, (center, step, *said) in enumerate(zip(self.vectors, steps, *members, strict=True)):
            if not step.lr:
                continue
            velocity = self.velocity[i] if step.momentum else None
            size = _BLOCK_ELEMENTS if center.device.type == "cpu" else max(1, center.numel())
            parts = (slice(begin, begin + size) for begin in range(0, center.numel(), size))
            moves += [partial(_meet_, part, center, velocity, said, step) for part in parts]
        self.make(moves)

    def part(self, slices: Sequence[Slice]) -> Center:
        """Return the center of some elements, the first vectors' ``slices``; what moves there moves here."""
        part = Center([])
        for name in ("vectors", "velocity", "known", "unsaid"):
            whole = getattr(self, name)
            setattr(part, name, [v[begin:end] for v, (begin, end) in zip(whole, slices, strict=False)])
        part.make = self.make
        return part

    def prepare(self, steps: Sequence[CenterStep], *, coded: bool) -> None:
        """Allocate what a step needs: its momentum, and with a codec what the replicas know, which is all so far."""
        if any(step.momentum for step in steps) and not self.velocity:
            self.velocity = [torch.zeros_like(vector) for vector in self.vectors]
        if coded and not self.known:
            self.known = [vector.clone() for vector in self.vectors]

    def squared_distance(self, vectors: Vectors) -> float:
        """Return |vectors - x̄|²; ``inf`` or ``nan`` if a number is not finite or its square too large."""
        # In blocks, so that the differences stay in the processor's cache.
        pairs = zip(vectors, self.vectors, strict=True)
        blocks = (
            block for v, c in pairs for block in zip(v.split(_BLOCK_ELEMENTS), c.split(_BLOCK_ELEMENTS), strict=True)
        )
        distances = [float(torch.dist(v, c)) for v, c in blocks]
        return sum(distance * distance for distance in distances)

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


def _meet_(part: slice, center: Tensor, velocity: Tensor | None, said: Vectors, step: CenterStep) -> None:
    """Move a part of a vector of the center towards the mean of what the members said of it."""
    center, said = center[part], [vector[part] for vector in said]
    if step.is_mean:
        _mean(said, center)
        return
    gap = _mean(said, torch.empty_like(center))
    torch.sub(center, gap, out=gap)
    if velocity is not None:
        v = velocity[part].mul_(step.momentum).add_(gap)
        gap.add_(v, alpha=step.momentum)
    center.sub_(gap, alpha=step.lr)


def make_in_turn(moves: Sequence[Move]) -> None:
    """Make all moves in this thread."""
    for move in moves:
        move()


def _series(state: Mapping[str, Tensor], name: str) -> list[Tensor]:
    count = sum(key.startswith(f"{name}.") for key in state)
    return [state[f"{name}.{i}"] for i in range(count)]
