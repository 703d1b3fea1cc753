"""Judging weights: metrics over the test set, with BatchNorm statistics that belong to these weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deeprelax.replica.task import Batch, Data, Task

EVALUATION_BATCH = 1024
RECALIBRATION_SAMPLES = 10_000

_BatchNorm = nn.modules.batchnorm._BatchNorm


def in_order(data: Data, size: int, limit: int | None = None) -> Iterator[Batch]:
    """Yield the samples in their own order, at most ``limit`` of them, in nearly equal batches of at most ``size``.

    BatchNorm takes no batch of one sample, so none is left over at the end.
    """
    samples = torch.arange(min(len(data), limit or len(data)))
    yield from (data.batch(indices) for indices in samples.tensor_split(-(-len(samples) // size)))


@torch.no_grad()
def evaluate(model: nn.Module, task: Task, device: torch.device) -> dict[str, float]:
    """Return the mean loss and metrics of ``model`` over the test set, in evaluation mode."""
    totals: dict[str, float] = {}
    counts: dict[str, int] = {}
    with evaluating(model):
        for inputs, targets in in_order(task.test_data, EVALUATION_BATCH):
            answers = targets.to(device)
            outputs = model(inputs.to(device))
            values = {"loss": task.loss(outputs, answers).float().expand(len(inputs))} | dict(
                task.metrics(outputs, answers)
            )
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + float(value.double().sum())
                counts[name] = counts.get(name, 0) + value.numel()
    return {name: total / counts[name] for name, total in totals.items()}


@torch.no_grad()
def outputs_of(model: nn.Module, task: Task, device: torch.device) -> Tensor:
    """Return the model's class probabilities over the test set, flat."""
    with evaluating(model):
        batches = [model(inputs.to(device)).softmax(-1) for inputs, _ in in_order(task.test_data, EVALUATION_BATCH)]
    return torch.cat(batches).flatten()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` in evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def own_buffers(model: nn.Module) -> Iterator[None]:
    """Give the model's buffers back as they were."""
    saved = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(saved[name])


def has_batchnorm(model: nn.Module) -> bool:
    """Return whether the model keeps running statistics."""
    return any(isinstance(module, _BatchNorm) and module.track_running_stats for module in model.modules())


@torch.no_grad()
def recalibrate(model: nn.Module, task: Task, batch_size: int, device: torch.device) -> None:
    """Replace the BatchNorm statistics by those of training data under the present weights, with dropout off.

    The mean over the batches of up to 10,000 training samples; averaged weights need it, since statistics do not
    average.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    with evaluating(model):
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        for inputs, _ in in_order(task.train_data, batch_size, RECALIBRATION_SAMPLES):
            model(inputs.to(device))
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
