"""Dropout of many replicas in one forward: each replica's mask is drawn beforehand, by its own random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class Drop:
    """One call of a dropout layer in a forward.

    Args:
        layer: the layer.
        inputs: what it was called with; its shape, strides and dtype decide which random numbers it draws.
    """

    def __init__(self, layer: nn.Module, inputs: Tensor) -> None:
        self._layer = layer
        self._ones = torch.ones_like(inputs)

    def mask(self) -> Tensor:
        """Return 0 where the layer drops, elsewhere its factor, from the random numbers that the layer draws."""
        result: Tensor = self._layer(self._ones)
        return result


class Masks:
    """Puts masks in the place of a model's dropout layers.

    Args:
        model: its dropout layers are replaced.
    """

    def __init__(self, model: nn.Module) -> None:
        self._seen: list[Drop] | None = None
        self._given: Iterator[Tensor] = iter(())
        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) in _LAYERS and layer.p:
                    setattr(parent, name, _Masked(layer, self))

    @contextmanager
    def watched(self) -> Iterator[list[Drop]]:
        """Yield the list of the calls that a forward makes while inside; nothing is dropped and nothing is drawn."""
        self._seen = []
        try:
            yield self._seen
        finally:
            self._seen = None

    def give(self, masks: Sequence[Tensor]) -> None:
        """Use these masks in the next forward, in the order of its calls."""
        self._given = iter(masks)

    def applied(self, layer: nn.Module, inputs: Tensor) -> Tensor:
        """Return what a call of ``layer`` gives."""
        if self._seen is None:
            return inputs * next(self._given)
        self._seen.append(Drop(layer, inputs))
        return inputs


class _Masked(nn.Module):
    """A dropout layer that multiplies by given masks."""

    def __init__(self, layer: nn.Module, masks: Masks) -> None:
        super().__init__()
        self.layer = layer
        self._masks = masks

    def forward(self, inputs: Tensor) -> Tensor:
        return self._masks.applied(self.layer, inputs)
