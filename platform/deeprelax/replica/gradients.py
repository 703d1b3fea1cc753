"""A mini-batch gradient of one replica: its loop asks for it, and whoever runs the loop has it computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deeprelax.replica.flat import FlatModel
from deeprelax.replica.random_stream import RandomStream
from deeprelax.replica.task import Batch, Task


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """How one replica computes a gradient: its model, its data and its own random numbers.

    Args:
        task: data, augmentation and loss.
        flat: the model; gradients go into its flat storage.
        device: where the model is.
        augmenting: the replica's generator for ``task.augment``.
        dropout: the replica's state of torch's global generators.
        accumulate: parts a batch is computed in.
        clip_norm: largest norm of the gradient; None does not clip.
        precision: ``float32``, or ``bf16``: forward and loss under bfloat16 autocast.
    """

    task: Task
    flat: FlatModel
    device: torch.device
    augmenting: torch.Generator
    dropout: RandomStream
    accumulate: int = 1
    clip_norm: float | None = None
    precision: Literal["float32", "bf16"] = "float32"

    def compute(self, indices: Tensor) -> Tensor:
        """Compute the gradient of the samples ``indices`` into the flat storage; return their mean loss."""
        self.flat.zero_grad()
        total = torch.zeros((), device=self.device)
        with self.dropout:
            for part in self.parts(indices):
                loss = self._loss(part) * (len(part) / len(indices))
                loss.backward()
                total += loss.detach()
        self.clip()
        return total

    def parts(self, indices: Tensor) -> tuple[Tensor, ...]:
        """Return the parts a batch is computed in."""
        return indices.tensor_split(min(self.accumulate, len(indices)))

    def batch(self, indices: Tensor) -> Batch:
        """Return inputs and targets of training samples, augmented, where the data is."""
        inputs, targets = self.task.train_data.batch(indices)
        if self.task.augment is not None:
            inputs = self.task.augment(inputs, self.augmenting)
        return inputs, targets

    def to_device(self, tensor: Tensor) -> Tensor:
        """Return a tensor of a batch where the model is."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of forward and loss."""
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    def clip(self) -> None:
        """Shorten a gradient that is longer than ``clip_norm``."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.flat.model.parameters(), self.clip_norm)

    def _loss(self, indices: Tensor) -> Tensor:
        inputs, targets = (self.to_device(tensor) for tensor in self.batch(indices))
        with self.autocast():
            return self.task.loss(self.flat.model(inputs), targets)


@dataclass(eq=False)
class Ask:
    """A gradient that a replica's loop waits for.

    The loop goes on once the gradient is in the replica's flat storage and ``loss`` is set.

    Args:
        gradients: the replica's way to compute it alone.
        indices: samples of the mini-batch, int64 of shape (B,).
        loss: their mean loss, a scalar on the replica's device.
    """

    gradients: Gradients
    indices: Tensor
    loss: Tensor | None = None

    def answer(self) -> None:
        """Compute this gradient alone."""
        self.loss = self.gradients.compute(self.indices)
