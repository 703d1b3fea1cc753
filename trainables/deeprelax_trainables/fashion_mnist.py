"""Fashion-MNIST: grey images of 28 x 28 pixels, clothes in 10 classes, 60,000 to train and 10,000 to test."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from deeprelax.errors import DataError
from deeprelax.registry import trainable
from deeprelax.replica.task import Task, TensorData
from deeprelax_trainables.convnets import AllCNN, SmallCNN
from deeprelax_trainables.datafiles import Download, LocalPath, PublicData
from deeprelax_trainables.idx import read_idx
from deeprelax_trainables.images import crop_and_flip, fixed_order, standardize

_SIZE, _CLASSES = 28, 10
_MEAN, _STD = torch.full((1, 1, 1), 0.2860 * 255), torch.full((1, 1, 1), 0.3530 * 255)
_MIRROR = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_SHA256 = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
FILES = PublicData(
    name="fashion_mnist",
    layouts=(tuple(f"{file}.gz" for file in _SHA256), tuple(_SHA256)),
    downloads=tuple(Download(url=f"{_MIRROR}/{file}.gz", sha256=digest) for file, digest in _SHA256.items()),
    system=Path("/usr/share/datasets/fashion-mnist"),
    install="apt-get install dataset-fashion-mnist",
)


class FashionMNISTConfig(BaseModel, frozen=True):
    """What ``fashion_mnist`` trains, on how many samples, and where the files are."""

    model: Literal["cnn", "allcnn"] = Field(
        "cnn", description="a CNN of LeNet's size, or All-CNN with batch normalization"
    )
    width: int | None = Field(
        None, ge=1, description="channels of the first convolution; default 16 (cnn) or 96 (allcnn)"
    )
    hidden: int = Field(128, ge=1, description="cnn: units of the dense layer")
    dropout: float = Field(0.2, ge=0, lt=1, description="probability of dropping a hidden unit while training")
    augment: bool = Field(False, description="shift by up to 2 pixels and mirror the training images at random")
    samples: int | None = Field(
        None, ge=1, le=60_000, description="use a fixed random subset of this many training samples; default all"
    )
    validation: int = Field(
        0, ge=0, lt=60_000, description="hold out the last so many training samples and test on them, to tune"
    )
    batch_size: int = Field(128, ge=1, description="samples of a mini-batch")
    lr: float = Field(0.05, gt=0, description="learning rate of SGD with Nesterov momentum")
    data: LocalPath | None = Field(
        None, description="folder with the four IDX files, plain or .gz; default: look for them"
    )


@trainable("fashion_mnist")
def fashion_mnist(config: FashionMNISTConfig) -> Task:
    """Fashion-MNIST, 28 x 28 grey images in 10 classes, 60,000 to train; a CNN of LeNet's size or All-CNN.

    The files are taken from ``data``, from ``$DEEPRELAX_DATA/fashion_mnist``, from Debian's package
    dataset-fashion-mnist, or downloaded once. Files of the same form (MNIST, KMNIST) in ``data`` work too.
    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.

    Raises:
        DataError: the files are missing or damaged.
    """
    images, targets, test_images, test_targets = _load(config.data)
    if config.validation:
        images, test_images = _split(images, config.validation)
        targets, test_targets = _split(targets, config.validation)
    chosen = fixed_order(len(images))[: config.samples] if config.samples else slice(None)
    prepare = partial(standardize, mean=_MEAN, std=_STD)
    return Task(
        model=partial(_model, config),
        train=TensorData(images[chosen], targets[chosen], prepare),
        test=TensorData(test_images, test_targets, prepare),
        augment=partial(crop_and_flip, padding=2) if config.augment else None,
        batch_size=config.batch_size,
        lr=config.lr,
    )


def _split(samples: Tensor, held_out: int) -> tuple[Tensor, Tensor]:
    if held_out >= len(samples):
        raise DataError(f"Invalid validation={held_out}. Must be less than the {len(samples)} training samples.")
    return samples[:-held_out], samples[-held_out:]


def _model(config: FashionMNISTConfig) -> nn.Module:
    if config.model == "allcnn":
        return AllCNN(channels=1, classes=_CLASSES, width=config.width or 96, dropout=config.dropout)
    return SmallCNN(
        channels=1, size=_SIZE, classes=_CLASSES, width=config.width or 16, hidden=config.hidden, dropout=config.dropout
    )


@lru_cache(maxsize=1)
def _load(folder: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images, uint8 (N, 1, 28, 28), their classes, int64 (N,), and the same of the test."""
    train, train_labels, test, test_labels = (read_idx(path) for path in FILES.locate(folder))
    for images, labels in ((train, train_labels), (test, test_labels)):
        if images.shape != (len(labels), _SIZE, _SIZE):
            raise DataError(
                f"Invalid Fashion-MNIST files: images of shape {tuple(images.shape)} and {len(labels)} labels. "
                f"Must be ({len(labels)}, {_SIZE}, {_SIZE})."
            )
    return train.unsqueeze(1), train_labels.long(), test.unsqueeze(1), test_labels.long()
