"""Small files in the formats of the public data sets, and the built-in trainables on them."""

from __future__ import annotations

import gzip
from pathlib import Path

import torch
from torch import Tensor

from deeprelax.registry import Trainable, find
from deeprelax.replica.task import Task
from deeprelax_trainables import char_lm, cifar10, digits, fashion_mnist, potential

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR = (*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin")
FUNCTIONS = (char_lm.char_lm, cifar10.cifar10, digits.digits, fashion_mnist.fashion_mnist, potential.potential)
TRAINABLES: dict[str, Trainable] = {function.__name__: find(function) for function in FUNCTIONS}


def write_files(folder: Path) -> None:
    """Write files of every format, whose classes can be told from the images."""
    generator = torch.Generator().manual_seed(0)
    for images, labels, count in ((IDX[0], IDX[1], 64), (IDX[2], IDX[3], 32)):
        classes = torch.randint(10, (count,), generator=generator)
        (folder / f"{images}.gz").write_bytes(gzip.compress(idx(blocks(classes, 28))))
        (folder / f"{labels}.gz").write_bytes(gzip.compress(idx(classes.byte())))
    for name in CIFAR:
        classes = torch.randint(10, (16,), generator=generator)
        pixels = blocks(classes, 32).flatten(1).repeat(1, 3)
        (folder / name).write_bytes(torch.cat([classes.byte()[:, None], pixels], 1).numpy().tobytes())
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 100)


def blocks(classes: Tensor, size: int) -> Tensor:
    """Return images, uint8 of shape (N, size, size), with bright rows where the class says."""
    images = torch.zeros(len(classes), size, size, dtype=torch.uint8)
    for image, digit in zip(images, classes.tolist(), strict=True):
        image[2 * digit : 2 * digit + 4] = 255
    return images


def idx(array: Tensor) -> bytes:
    header = bytes([0, 0, 8, array.dim()])
    return header + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.numpy().tobytes()


def build(name: str, folder: Path, **values: object) -> Task:
    place: dict[str, object] = {"text": str(folder / "text.txt")} if name == "char_lm" else {}
    if name in {"fashion_mnist", "cifar10"}:
        place = {"data": str(folder)}
    chosen = TRAINABLES[name]
    return chosen.build(chosen.configure({**place, **values}))


def forget_loaded_files() -> None:
    """Empty the caches, so that the next test reads its own files."""
    for module in (char_lm, cifar10, digits, fashion_mnist):
        module._load.cache_clear()
