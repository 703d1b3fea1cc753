"""Handwritten digits of 8 x 8 pixels, embedded in the package: the workload that always runs."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from deeprelax.registry import trainable
from deeprelax.replica.task import Task, TensorData
from deeprelax_trainables.images import standardize

_PIXELS, _CLASSES = 64, 10
_MEAN, _STD = torch.full((1, 1, 1), 4.884), torch.full((1, 1, 1), 6.017)


class DigitsConfig(BaseModel, frozen=True):
    """What ``digits`` trains and on how many samples."""

    model: Literal["cnn", "mlp"] = Field(
        "cnn", description="two convolutions, or a dense network with two hidden layers"
    )
    channels: int = Field(16, ge=1, description="cnn: channels of the first convolution; the second has twice as many")
    hidden: int = Field(256, ge=1, description="mlp: units of each hidden layer")
    dropout: float = Field(0.2, ge=0, lt=1, description="probability of dropping a hidden unit while training")
    batch_size: int = Field(32, ge=1, description="samples of a mini-batch")
    lr: float = Field(0.05, gt=0, description="learning rate of SGD with Nesterov momentum")
    test_fraction: float = Field(
        0.2, ge=0.01, le=0.9, description="share of each class kept for the test, the same in every run"
    )


@trainable("digits")
def digits(config: DigitsConfig) -> Task:
    """Digits of 8 x 8 pixels in 10 classes, 1,797 samples in the package, a small CNN or MLP.

    Trains in seconds on one CPU core: 8 passes of SGD with a cosine learning rate end near 1 % test error with the CNN
    and 2 % with the MLP. Data: E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, CC BY 4.0.
    """
    images, targets = _load()
    test = _is_test(targets, config.test_fraction)
    prepare = partial(standardize, mean=_MEAN, std=_STD)
    return Task(
        model=partial(_cnn if config.model == "cnn" else _mlp, config),
        train=TensorData(images[~test], targets[~test], prepare),
        test=TensorData(images[test], targets[test], prepare),
        batch_size=config.batch_size,
        lr=config.lr,
    )


def _cnn(config: DigitsConfig) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, config.channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(config.channels, 2 * config.channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(config.dropout),
        nn.Linear(2 * config.channels * _PIXELS // 4, _CLASSES),
    )


def _mlp(config: DigitsConfig) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(_PIXELS, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, _CLASSES),
    )


@lru_cache(maxsize=1)
def _load() -> tuple[Tensor, Tensor]:
    """Return images, uint8 of shape (1797, 1, 8, 8) from 0 to 16, and their digits, int64 of shape (1797,)."""
    with np.load(Path(__file__).with_name("data") / "digits.npz") as arrays:
        return torch.from_numpy(arrays["images"]).unsqueeze(1), torch.from_numpy(arrays["targets"]).long()


def _is_test(targets: Tensor, fraction: float) -> Tensor:
    """Return a mask, shape (N,), of samples spread evenly over each class: no random numbers, so no run differs."""
    mask = torch.zeros(len(targets), dtype=torch.bool)
    for digit in range(_CLASSES):
        members = (targets == digit).nonzero().squeeze(1)
        share = (torch.arange(len(members) + 1, dtype=torch.float64) * fraction).floor()
        mask[members] = share[1:] > share[:-1]
    return mask
