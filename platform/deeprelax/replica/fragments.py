"""The parts of the weights that are exchanged one after the other, so that a link carries a part of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from deeprelax.coupling.codec import CHUNK
from deeprelax.coupling.message import Message, Slice
from deeprelax.coupling.weights import Weights


class Fragment(Weights):
    """A slice of the weights of one dtype: a rule that works element by element works on it as on the whole.

    Args:
        whole: the weights.
        within: which of their elements.
    """

    def __init__(self, whole: Weights, within: Slice) -> None:
        begin, end = within
        super().__init__(whole.fast[begin:end], whole.grad[begin:end])
        self._whole, self._within = whole, within
        for name in whole:
            self.keep(name)

    def __contains__(self, name: str) -> bool:
        return name in self._whole

    def __getitem__(self, name: str) -> Tensor:
        return self.keep(name)

    def keep(self, name: str) -> Tensor:
        """Return the slice of the vector ``name``; from then on the whole has it."""
        if name not in self._kept:
            begin, end = self._within
            self._kept[name] = self._whole.keep(name)[begin:end]
        return self._kept[name]


def cut(size: int, parts: int) -> list[Slice]:
    """Return the slices of a vector, nearly equally long.

    Where it is long enough they begin at multiples of :data:`~deeprelax.coupling.codec.CHUNK`, as servers' slices do.
    """
    unit = CHUNK if size >= parts * CHUNK else 1
    units = -(-size // unit)
    borders = [min(size, units * part // parts * unit) for part in range(parts + 1)]
    return list(pairwise(borders))


class Fragments:
    """The weights of a replica in parts that take turns, one an exchange.

    Args:
        weights: one for each dtype.
        count: F, the parts; 1 is all of them.
    """

    def __init__(self, weights: Sequence[Weights], count: int) -> None:
        self.count = count
        self._slices = list(zip(*(cut(len(w.fast), count) for w in weights), strict=True))
        self._parts: list[Sequence[Weights]] = [weights]
        if count > 1:
            self._parts = [
                [Fragment(w, within) for w, within in zip(weights, part, strict=True)] for part in self._slices
            ]

    def part(self, exchanges: int) -> Sequence[Weights]:
        """Return whose turn it is after so many exchanges."""
        return self._parts[exchanges % self.count]

    def message(self, whole: Message) -> Message:
        """Return a message about the part whose turn it is; the vectors beside the weights travel with the last one."""
        if self.count == 1:
            return whole
        turn = whole.exchanges % self.count
        slices, count = self._slices[turn], len(self._slices[turn])
        if turn < self.count - 1:
            steps = whole.center_steps[:count]
            return replace(whole, vectors=whole.vectors[:count], center_steps=steps, slices=slices)
        beside = ((0, len(vector)) for vector in whole.vectors[count:])
        return replace(whole, slices=(*slices, *beside))
