"""A small classification task with every part a run can have, and a way to act at a chosen batch of a real run.

Trainable as ``tests.unit.toytasks:toy``. Shapes: N samples, F features (6), C classes (3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from deeprelax.replica.task import Batch, Task

TOY = "tests.unit.toytasks:toy"
FEATURES, CLASSES = 6, 3


class ToyConfig(BaseModel):
    """Which parts the task has."""

    samples: int = 96
    test_samples: int = 40
    batchnorm: bool = False
    dropout: float = 0.0
    augment: bool = False
    frozen: bool = False
    poisoned: bool = False
    optimizer: str = "sgd"
    lr: float = 0.1
    batch_size: int = 8


EVERYTHING: dict[str, Any] = {"batchnorm": True, "dropout": 0.2, "augment": True, "frozen": True}


class InterruptError(Exception):
    """What a test throws into a run."""


def interrupt() -> None:
    """Throw :class:`InterruptError` into the run."""
    raise InterruptError


@dataclass
class _Armed:
    """An action and the batches left until it happens."""

    act: Callable[[], None]
    left: int
    begun: Callable[[], bool]


_ARMED: list[_Armed] = []


@contextmanager
def at_batch(number: int, act: Callable[[], None], *, begun: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """While inside, call ``act`` when a run fetches training batch ``number``, counted from where ``begun()`` holds."""
    _ARMED.append(_Armed(act, number, begun))
    try:
        yield
    finally:
        _ARMED.pop()


@dataclass
class Samples:
    """In-memory data that counts its batches for :func:`at_batch`."""

    inputs: Tensor
    targets: Tensor
    fetched: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Tensor) -> Batch:
        """Return the samples ``indices``; first do what a test has armed."""
        self.fetched.append(indices)
        for armed in _ARMED:
            if armed.begun():
                armed.left -= 1
                if armed.left == 0:
                    armed.act()
        return self.inputs[indices], self.targets[indices]


def toy(config: ToyConfig) -> Task:
    """Three Gaussian clouds and a small network."""
    inputs, targets = _clouds(config.samples + config.test_samples)
    train, test = inputs[: config.samples], inputs[config.samples :]
    if config.poisoned:
        train = train * float("nan")
    return Task(
        model=partial(_model, config),
        train=Samples(train, targets[: config.samples]),
        test=(test, targets[config.samples :]),
        augment=_shake if config.augment else None,
        batch_size=config.batch_size,
        lr=config.lr,
        optimizer=config.optimizer,
    )


def _clouds(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    centers = 2.0 * torch.randn(CLASSES, FEATURES, generator=generator)
    targets = torch.randint(CLASSES, (count,), generator=generator)
    return centers[targets] + torch.randn(count, FEATURES, generator=generator), targets


def _model(config: ToyConfig) -> nn.Module:
    first, norm = nn.Linear(FEATURES, 8), nn.BatchNorm1d(8) if config.batchnorm else nn.Identity()
    if config.frozen:
        first.weight.requires_grad_(False)
    return nn.Sequential(first, norm, nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(8, CLASSES))


def _shake(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
