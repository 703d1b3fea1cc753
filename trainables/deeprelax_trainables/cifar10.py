"""CIFAR-10: colour images of 32 x 32 pixels in 10 classes, 50,000 to train and 10,000 to test."""

from __future__ import annotations

import tarfile
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, field_validator
from torch import Tensor, nn

from deeprelax.errors import DataError
from deeprelax.registry import trainable
from deeprelax.replica.task import Task, TensorData
from deeprelax_trainables.convnets import AllCNN, WideResNet
from deeprelax_trainables.datafiles import Download, LocalPath, PublicData
from deeprelax_trainables.images import crop_and_flip, fixed_order, standardize

_CHANNELS, _SIZE, _CLASSES = 3, 32, 10
_RECORD = 1 + _CHANNELS * _SIZE**2
_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1) * 255
_STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1) * 255
_ARCHIVE = "cifar-10-binary.tar.gz"
_FOLDER = "cifar-10-batches-bin"
_MEMBERS = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
FILES = PublicData(
    name="cifar10",
    layouts=((_ARCHIVE,), _MEMBERS, tuple(f"{_FOLDER}/{member}" for member in _MEMBERS)),
    downloads=(
        Download(
            url=f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE}",
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
)


class Cifar10Config(BaseModel, frozen=True):
    """What ``cifar10`` trains, on how many samples, and where the files are."""

    model: Literal["allcnn", "wrn"] = Field(
        "allcnn", description="All-CNN with batch normalization, or WRN-depth-width"
    )
    depth: int = Field(16, ge=10, description="wrn: number of layers, 6 n + 4")
    width: int | None = Field(
        None,
        ge=1,
        description="channels of the first convolution (allcnn, default 96) or widening factor (wrn, default 4)",
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="probability of dropping a hidden unit; default .5 (allcnn) or 0 (wrn)"
    )
    augment: bool = Field(True, description="shift by up to 4 pixels and mirror the training images at random")
    samples: int | None = Field(
        None, ge=1, le=50_000, description="use a fixed random subset of this many training samples; default all"
    )
    batch_size: int = Field(128, ge=1, description="samples of a mini-batch")
    lr: float = Field(0.1, gt=0, description="learning rate of SGD with Nesterov momentum")
    data: LocalPath | None = Field(
        None, description="folder with the archive or the six .bin files; default: look for them"
    )

    @field_validator("depth")
    @classmethod
    def _depth_fits(cls, depth: int) -> int:
        if depth % 6 != 4:
            raise ValueError("Must be 6 n + 4, for example 10, 16, 22, 28 or 40")
        return depth


@trainable("cifar10")
def cifar10(config: Cifar10Config) -> Task:
    """CIFAR-10, 32 x 32 colour images in 10 classes, 50,000 to train; All-CNN or a wide residual network.

    The binary version is taken from ``data``, from ``$DEEPRELAX_DATA/cifar10``, or downloaded once.
    Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images".

    Raises:
        DataError: the files are missing or damaged.
    """
    images, targets, test_images, test_targets = _load(config.data)
    chosen = fixed_order(len(images))[: config.samples] if config.samples else slice(None)
    prepare = partial(standardize, mean=_MEAN, std=_STD)
    return Task(
        model=partial(_model, config),
        train=TensorData(images[chosen], targets[chosen], prepare),
        test=TensorData(test_images, test_targets, prepare),
        augment=crop_and_flip if config.augment else None,
        batch_size=config.batch_size,
        lr=config.lr,
    )


def _model(config: Cifar10Config) -> nn.Module:
    if config.model == "wrn":
        return WideResNet(
            channels=_CHANNELS,
            classes=_CLASSES,
            depth=config.depth,
            width=config.width or 4,
            dropout=config.dropout or 0.0,
        )
    dropout = 0.5 if config.dropout is None else config.dropout
    return AllCNN(
        channels=_CHANNELS, classes=_CLASSES, width=config.width or 96, dropout=dropout, input_dropout=0.4 * dropout
    )


@lru_cache(maxsize=1)
def _load(folder: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images, uint8 (N, 3, 32, 32), their classes, int64 (N,), and the same of the test."""
    *train, test = _contents(FILES.locate(folder))
    images, targets = zip(*map(_parse, train), strict=True)
    return torch.cat(images), torch.cat(targets), *_parse(test)


def _contents(files: list[Path]) -> list[bytes]:
    """Return the bytes of the six members, read from the archive or from files of their own."""
    if len(files) > 1:
        return [file.read_bytes() for file in files]
    try:
        with tarfile.open(files[0]) as archive:
            members = [archive.extractfile(f"{_FOLDER}/{name}") for name in _MEMBERS]
            return [member.read() if member is not None else b"" for member in members]
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise DataError(f"Cannot read {files[0]}: {error}. Fetch the archive again.") from error


def _parse(content: bytes) -> tuple[Tensor, Tensor]:
    """Return images and classes of records of one class byte and 3 x 32 x 32 colour bytes."""
    if not content or len(content) % _RECORD:
        raise DataError(
            f"Invalid CIFAR-10 file of {len(content)} bytes. Must be a multiple of {_RECORD}. Fetch the files again."
        )
    records = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, _RECORD).copy())
    return records[:, 1:].reshape(-1, _CHANNELS, _SIZE, _SIZE).contiguous(), records[:, 0].long()
