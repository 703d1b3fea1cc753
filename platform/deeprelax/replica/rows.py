"""Matrices whose rows are the flat vectors of replicas.

Legend: R rows, P elements of a flat vector, K rows that follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deeprelax.coupling.weights import Weights


class Matrix:
    """All vectors of one dtype: weights, gradients, and what the methods keep beside them.

    Args:
        rows: R.
        size: P.
        like: a tensor of their dtype and device.

    Attributes:
        fast: shape (R, P).
        grad: likewise.
    """

    def __init__(self, rows: int, size: int, like: Tensor) -> None:
        self.fast = torch.zeros(rows, size, dtype=like.dtype, device=like.device)
        self.grad = torch.zeros_like(self.fast)
        self._kept: dict[str, Tensor] = {}

    def keep(self, name: str) -> Tensor:
        """Return the vectors ``name`` of all rows, shape (R, P), allocated and zero at the first call."""
        if name not in self._kept:
            self._kept[name] = torch.zeros_like(self.fast)
        return self._kept[name]


class Row(Weights):
    """One replica's weights in a matrix.

    Args:
        matrix: where.
        row: which.
        padding: see :class:`~deeprelax.coupling.weights.Weights`.
    """

    def __init__(self, matrix: Matrix, row: int, padding: Tensor) -> None:
        super().__init__(matrix.fast[row], matrix.grad[row], padding)
        self.matrix = matrix
        self.row = row

    def keep(self, name: str) -> Tensor:
        """See :meth:`Weights.keep`."""
        if name not in self:
            self._kept[name] = self.matrix.keep(name)[self.row]
        return self[name]


class RowRange(Weights):
    """Rows that follow one another as one long vector, shape (K·P,): a rule that works element by element fits all.

    Args:
        rows: K of them.
        generators: each replica's own, for its noise.
    """

    def __init__(self, rows: Sequence[Row], generators: Sequence[torch.Generator]) -> None:
        self._matrix, self._slice = rows[0].matrix, slice(rows[0].row, rows[-1].row + 1)
        super().__init__(self._long(self._matrix.fast), self._long(self._matrix.grad))
        self._rows, self._generators = rows, generators
        for name in rows[0]:
            self.keep(name)

    def keep(self, name: str) -> Tensor:
        """Return the vectors ``name`` of the rows, shape (K·P,); from then on every row has it."""
        if name not in self:
            for row in self._rows:
                row.keep(name)
            self._kept[name] = self._long(self._matrix.keep(name))
        return self[name]

    def noise(self, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - every row draws from its own
        """Return the noise that the replicas draw, shape (K·P,)."""
        pairs = zip(self._rows, self._generators, strict=True)
        return torch.cat([row.noise(own) for row, own in pairs])

    def _long(self, matrix: Tensor) -> Tensor:
        return matrix[self._slice].view(-1)
