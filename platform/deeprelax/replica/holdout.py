"""Part of the training data held out, to choose settings by: who chooses by the test set has no test set left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.replica.seeds import derived_seed
from deeprelax.replica.task import Batch, Data, Task


@dataclass(frozen=True)
class Part:
    """Some samples of a data set, as a data set.

    Args:
        data: the whole.
        indices: of the samples in it, int64 of shape (N,).
    """

    data: Data
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Tensor) -> Batch:
        """See :meth:`Data.batch`."""
        return self.data.batch(self.indices[indices])


def hold_out(task: Task, fraction: float) -> Task:
    """Return the task with a part of its training data in the place of its test data, and the rest to train on.

    The part is drawn at random and is the same in every run, whatever its seed, so that runs can be compared.

    Args:
        task: whose samples are independent; overlapping windows of one text are not.
        fraction: of the training samples, in [0, 1); 0 returns the task as it is.

    Raises:
        ConfigError: nothing would be left to train on, or nothing to judge by.
    """
    if not fraction:
        return task
    samples = len(task.train_data)
    held = round(fraction * samples)
    if not 0 < held < samples:
        raise ConfigError(
            f"Invalid holdout={fraction}. Of {samples} training samples it holds out {held}. Must leave at least one on"
            " each side."
        )
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(derived_seed(0, "holdout")))
    # In their own order again: neighbours in memory stay neighbours.
    test, train = order[:held].sort().values, order[held:].sort().values
    return replace(task, train=Part(task.train_data, train), test=Part(task.train_data, test))
