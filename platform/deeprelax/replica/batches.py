"""The order in which a replica sees its data: passes without replacement, fixed by (seed, replica, data pass)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.replica.seeds import derived_seed

DataPolicy = Literal["all", "shards", "overlap"]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Mini-batches by index. Every sample of the replica's part comes once in a data pass, in a new order each pass.

    Batches differ in size by at most one sample, so that no pass ends with a tiny one. The position is the step
    counter, so a resumed run needs no other state.

    Args:
        samples: size of the training set.
        batch_size: samples of a batch, at most.
        replica: index a.
        replicas: n.
        seed: of the run.
        policy: ``all`` data; disjoint ``shards`` (samples // n each); parts that ``overlap``.
        fraction: size of an overlapping part.
    """

    samples: int
    batch_size: int
    replica: int = 0
    replicas: int = 1
    seed: int = 0
    policy: DataPolicy = "all"
    fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.part_size < 1:
            raise ConfigError(
                f"Invalid data={self.policy!r}: {self.samples} samples leave none for each of {self.replicas} replicas."
            )

    @property
    def part_size(self) -> int:
        """Return how many samples this replica sees."""
        if self.policy == "shards":
            return self.samples // self.replicas
        return round(self.samples * self.fraction) if self.policy == "overlap" else self.samples

    @property
    def steps_per_pass(self) -> int:
        """Return B, the number of batches of a data pass."""
        return -(-self.part_size // self.batch_size)

    def part(self) -> Tensor:
        """Return the indices this replica sees, int64 of shape (part_size,)."""
        if self.policy == "all":
            return torch.arange(self.samples)
        everyone = _permutation(self.samples, derived_seed(self.seed, "parts"))
        if self.policy == "shards":
            return everyone[self.replica :: self.replicas][: self.part_size]
        begin = self.replica * self.samples // self.replicas
        return everyone.roll(-begin)[: self.part_size]

    def of_pass(self, number: int) -> tuple[Tensor, ...]:
        """Return the batches of data pass ``number``: B int64 tensors of indices."""
        part = self.part()
        order = _permutation(len(part), derived_seed(self.seed, "data", self.replica, number))
        return part[order].tensor_split(self.steps_per_pass)


def _permutation(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))
