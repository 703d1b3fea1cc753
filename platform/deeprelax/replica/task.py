"""What is trained: a model, its data, its loss and its metrics.

A *trainable* (see :mod:`deeprelax.registry`) is a function that builds a :class:`Task` on the worker from a plain
config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from deeprelax.errors import ConfigError

Batch = tuple[Tensor, Tensor]
Metrics = Mapping[str, Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@runtime_checkable
class Data(Protocol):
    """A finite set of samples that can be fetched by index, a batch at a time."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, indices: Tensor) -> Batch:
        """Return ``(inputs, targets)`` of the samples ``indices``, an int64 tensor of shape (B,)."""
        ...


@dataclass(frozen=True)
class TensorData:
    """Samples held in memory as two tensors; a batch is one indexing operation, without worker processes.

    Args:
        inputs: shape (N, ...). Integer images are kept as they are and scaled by the model or by ``prepare``.
        targets: shape (N, ...).
        prepare: applied to the inputs of every batch, for example uint8 to float32 in [0, 1]. Keeps the set small in
            memory.
    """

    inputs: Tensor
    targets: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ConfigError(
                f"Invalid data: {len(self.inputs)} inputs and {len(self.targets)} targets. Must be equally many."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Tensor) -> Batch:
        """See :meth:`Data.batch`."""
        inputs = self.inputs[indices]
        return (self.prepare(inputs) if self.prepare else inputs), self.targets[indices]


def classification_metrics(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the 0/1 error, shape (...), of logits of shape (..., C) against integer targets of shape (...)."""
    return {"error": (outputs.argmax(-1) != targets).float()}


@dataclass(kw_only=True)
class Task:
    """Everything a replica needs to train and everything the center needs to be judged.

    Args:
        model: builds a freshly initialized network; called under the replica's seed, so use torch's global generator.
        train: the training set, a :class:`Data` or a pair of tensors ``(inputs, targets)``.
        test: the evaluation set, likewise.
        loss: maps ``(model(inputs), targets)`` to the scalar mean loss of the batch.
        metrics: maps ``(model(inputs), targets)`` to per-sample values (any shape; they are averaged). ``error`` is the
            one shown.
        augment: changes a batch of training inputs with the replica's own generator (on the CPU, seeded, resumable).
        batch_size: samples of one mini-batch, the default of a run.
        lr: default learning rate of ``optimizer`` on this task.
        optimizer: default inner optimizer of this task: ``"sgd"``, or a key of ``deeprelax.coupling.inner.OPTIMIZERS``
            such as ``"adamw"``.
    """

    model: Callable[[], nn.Module]
    train: Data | Batch
    test: Data | Batch
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
    metrics: Callable[[Tensor, Tensor], Metrics] = classification_metrics
    augment: Augment | None = None
    batch_size: int = 128
    lr: float = 0.05
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        self.train_data: Data = as_data(self.train)
        self.test_data: Data = as_data(self.test)


def as_data(source: Data | Batch) -> Data:
    """Return ``source`` as :class:`Data`; a pair of tensors becomes :class:`TensorData`."""
    if isinstance(source, tuple):
        return TensorData(*source)
    return source
