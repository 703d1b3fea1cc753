"""A message on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from deeprelax.coupling.base import Knobs
from deeprelax.coupling.message import Message
from deeprelax.coupling.weights import Weights
from deeprelax.replica.adaptation import Adaptation
from deeprelax.schedules import Position


@dataclass(frozen=True, kw_only=True)
class Flight:
    """A message, and what has to be known of the step it left at when its reply comes.

    Args:
        message: with its vectors in numbers.
        knobs: of the step it left at.
        measuring: the distance to its reply is to be measured.
        balancing: a spring is balanced by its reply.
        part: of the weights, that it is about.
        deciding: the decision of a population that its reply brings, and where.
    """

    message: Message
    knobs: Knobs
    part: Sequence[Weights]
    measuring: bool
    balancing: bool
    deciding: tuple[Adaptation, Position] | None

    def with_own_vectors(self) -> Flight:
        """Return the same with copies of the vectors, for a replica that goes on while they travel."""
        vectors = tuple(vector.clone() for vector in self.message.vectors)
        return replace(self, message=replace(self.message, vectors=vectors))
