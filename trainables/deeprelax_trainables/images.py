"""Image batches: numbers from bytes, augmentation, and a fixed choice of samples.

Shapes: B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def standardize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return ``(images - mean) / std`` as float32.

    Args:
        images: shape (B, C, H, W), any number type; usually bytes, a quarter of the memory of float32.
        mean: of each channel in the units of ``images``, shape (C, 1, 1).
        std: likewise, > 0.
    """
    return (images.float() - mean.to(images.device)) / std.to(images.device)


def crop_and_flip(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Return every image shifted by up to ``padding`` pixels and mirrored with probability one half.

    Zeros, after :func:`standardize` the mean colour, come in at the border.

    Args:
        images: shape (B, C, H, W).
        generator: on the CPU; draws 3 integers for each image.
        padding: largest shift in pixels, >= 0.
    """
    batch, channels, height, width = images.shape
    shift = torch.randint(2 * padding + 1, (2, batch, 1), generator=generator)
    flipped = torch.randint(2, (batch, 1), generator=generator, dtype=torch.bool)
    column = torch.arange(width)
    rows = (torch.arange(height) + shift[0]).to(images.device)
    columns = (torch.where(flipped, width - 1 - column, column) + shift[1]).to(images.device)
    padded = functional.pad(images, (padding,) * 4)
    sample = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def fixed_order(count: int) -> Tensor:
    """Return a permutation of ``range(count)``, int64, the same in every run, for fixed nested subsets."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))
