"""Where a replica starts: its weights and its part of the data."""

from __future__ import annotations

import torch
from torch import nn

from deeprelax.coupling.base import Coupling
from deeprelax.replica.batches import Batches
from deeprelax.replica.seeds import derived_seed
from deeprelax.replica.task import Task


def build_model(task: Task, coupling: Coupling, seed: int, index: int) -> nn.Module:
    """Return the replica's model at its start: the same for all, plus noise, or independent.

    Frozen parameters are always the same.
    """
    model = initialized(task, seed=seed, index=0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if coupling.start == "independent" and index:
        others = [
            parameter for parameter in initialized(task, seed=seed, index=index).parameters() if parameter.requires_grad
        ]
        for parameter, other in zip(trained, others, strict=True):
            parameter.data.copy_(other.data)
    if coupling.start == "noise":
        generator = torch.Generator().manual_seed(derived_seed(seed, "start", index))
        for parameter in trained:
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data.add_(noise, alpha=coupling.start_noise)
    return model


def batches_of(task: Task, coupling: Coupling, batch_size: int, seed: int, index: int) -> Batches:
    """Return the batches of one replica under the coupling's data policy."""
    return Batches(
        samples=len(task.train_data),
        batch_size=batch_size,
        replica=index,
        replicas=coupling.replicas,
        seed=seed,
        policy=coupling.data,
        fraction=coupling.data_fraction,
    )


def initialized(task: Task, *, seed: int, index: int) -> nn.Module:
    """Return a model with the random weights of a seed and a replica; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights", index))
        return task.model()
