"""The flat vectors of one replica: what every rule of every method reads and writes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Weights:
    """All trained parameters of one dtype as one flat tensor, its gradient, and the vectors a method keeps beside them.

    ``fast`` (y) is what the model computes with. The others are named by the methods: ``anchor`` (x), ``average`` (z),
    ``center`` (x̄), ``velocity`` (momentum of y), ``outer_velocity`` (momentum of x), ``direction`` (p).

    Args:
        fast: shape (P,).
        grad: shape (P,).
        padding: int64 indices of elements that belong to no parameter (they align the parameters in memory and stay 0).
    """

    def __init__(self, fast: Tensor, grad: Tensor, padding: Tensor | None = None) -> None:
        self.fast = fast
        self.grad = grad
        self._padding = padding if padding is not None and len(padding) else None
        self._kept: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    @property
    def size(self) -> int:
        """Return P without the padding."""
        return self.fast.numel() - (0 if self._padding is None else len(self._padding))

    def keep(self, name: str) -> Tensor:
        """Return the vector ``name``, shape (P,), allocated and zero at the first call."""
        if name not in self._kept:
            self._kept[name] = torch.zeros_like(self.fast)
        return self._kept[name]

    def noise(self, generator: torch.Generator) -> Tensor:
        """Return standard normal noise, shape (P,), zero on the padding; ``generator`` lives on the vectors' device."""
        noise = torch.randn(self.fast.shape, generator=generator, dtype=self.fast.dtype, device=self.fast.device)
        if self._padding is not None:
            noise[self._padding] = 0
        return noise
