"""Counting the minima that a smoothing leaves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deeprelax.pde.grid import Grid


def local_minima(function: Callable[[Tensor], Tensor], grid: Grid) -> Tensor:
    """Return the nodes that are local minima of a function on a 1-d grid, shape (M,), ends excluded.

    A flat stretch that is lower than both of its sides counts once, at its left end.

    Args:
        function: from (points, 1) to (points,).
        grid: of dimension 1, fine enough to separate the minima.
    """
    values = function(grid.nodes())
    change = torch.diff(values)
    moving = torch.nonzero(change).flatten()
    signs = torch.sign(change[moving])
    bottoms = moving[:-1][(signs[:-1] < 0) & (signs[1:] > 0)] + 1
    return grid.axis()[bottoms]
