"""The local steps of many replicas in one call where they are made with the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import cast

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.inner import FlatSgd
from deeprelax.coupling.kernels import COMPILE_FROM_ELEMENTS
from deeprelax.replica.local_step import LocalStep
from deeprelax.replica.rows import Row, RowRange


class StackedSteps:
    """Collects local steps and makes them together.

    A local step works element by element, so the steps of replicas with one coupling and the same values of its
    schedules are one step of a longer vector. A torch optimizer has a state of its own and steps alone.
    """

    def __init__(self) -> None:
        self._waiting: list[LocalStep] = []
        self._couplings: dict[int, tuple[Coupling, str]] = {}
        self._ranges: dict[tuple[int, int], list[RowRange]] = {}

    def take(self, step: LocalStep) -> None:
        """Keep a step until :meth:`make`."""
        self._waiting.append(step)

    def make(self) -> None:
        """Make all steps that wait."""
        waiting, self._waiting = sorted(self._waiting, key=_row), []
        for steps in self._alike(waiting):
            if len(steps) == 1:
                steps[0].make()
                continue
            first = steps[0]
            first.coupling.local_step(self._range(steps), first.knobs, first.inner, first.generator)

    def _alike(self, steps: Sequence[LocalStep]) -> Iterator[list[LocalStep]]:
        """Yield runs of steps with the same numbers on rows that follow one another, short of what torch compiles."""
        keys = [(self._kind(step.coupling), *step.knobs.values(), _row(step) - i) for i, step in enumerate(steps)]
        for _, members in groupby(zip(keys, steps, strict=True), key=lambda pair: pair[0]):
            group = [step for _, step in members]
            most = 1
            if isinstance(group[0].inner, FlatSgd):
                longest = max(w.fast.numel() for w in group[0].weights)
                most = max(1, (COMPILE_FROM_ELEMENTS - 1) // longest)
            yield from (group[i : i + most] for i in range(0, len(group), most))

    def _kind(self, coupling: Coupling) -> str:
        """Return words that only equal couplings share, made once for each object."""
        if id(coupling) not in self._couplings:
            # The object is kept, so that no other one takes its id.
            self._couplings[id(coupling)] = coupling, repr(coupling)
        return self._couplings[id(coupling)][1]

    def _range(self, steps: Sequence[LocalStep]) -> list[RowRange]:
        key = (_row(steps[0]), len(steps))
        if key not in self._ranges:
            generators = [step.generator for step in steps]
            columns = zip(*(cast("Sequence[Row]", step.weights) for step in steps), strict=True)
            self._ranges[key] = [RowRange(rows, generators) for rows in columns]
        return self._ranges[key]


def _row(step: LocalStep) -> int:
    return cast("Row", step.weights[0]).row
