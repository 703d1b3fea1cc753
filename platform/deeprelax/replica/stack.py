"""The flat vectors of many replicas of one model as the rows of one matrix.

Legend: R rows, P elements of a flat vector, K rows in use at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deeprelax.errors import ConfigError
from deeprelax.replica.flat import FlatModel
from deeprelax.replica.rows import Matrix, Row

Rows = tuple[int, ...]


class Stack:
    """Binds replicas of one model so that their fast weights and gradients are rows of matrices of shape (R, P).

    A row is an ordinary flat vector to its replica: every rule of every coupling works on it.

    Args:
        rows: R, the most replicas it takes.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._flats: dict[FlatModel, int] = {}
        self._matrices: dict[torch.dtype, Matrix] = {}
        self._windows: dict[Rows, Window] = {}

    def bind(self, model: nn.Module) -> FlatModel:
        """Bind the next replica's model.

        Raises:
            ConfigError: it is another model than the first.
        """
        row = len(self._flats)
        flat = FlatModel(model, lambda size, like, padding: self._allocate(row, size, like, padding))
        self._flats[flat] = row
        if _layout(flat) != _layout(self.flats[0]):
            raise ConfigError("Replicas that are computed together must have one model; a parameter of these differs.")
        return flat

    @property
    def flats(self) -> Sequence[FlatModel]:
        """The bound models, in the order of their rows."""
        return tuple(self._flats)

    def row(self, flat: FlatModel) -> int:
        """Return the row of a bound model."""
        return self._flats[flat]

    def window(self, rows: Rows) -> Window:
        """Return some rows, in ascending order."""
        if rows not in self._windows:
            self._windows[rows] = Window(self.flats[rows[0]], list(self._matrices.values()), rows)
        return self._windows[rows]

    def _allocate(self, row: int, size: int, like: Tensor, padding: Tensor) -> Row:
        if like.dtype not in self._matrices:
            self._matrices[like.dtype] = Matrix(self._rows, size, like)
        matrix = self._matrices[like.dtype]
        if matrix.fast.shape[1] != size:
            raise ConfigError("Replicas that are computed together must have one model; these differ in size.")
        return Row(matrix, row, padding)


class Window:
    """Some rows, parameter by parameter: views of the matrices where the rows follow one another, else copies.

    Args:
        flat: a model of the stack, for the places of its parameters.
        matrices: one a dtype, in the order of the model's weights.
        rows: K of them, in ascending order.

    Attributes:
        trained: the parameters by the model's names, leaves of shape (K, ...).
        grads: their gradients, likewise.
    """

    def __init__(self, flat: FlatModel, matrices: Sequence[Matrix], rows: Rows) -> None:
        self._matrices = matrices
        self._follow = len(rows) == rows[-1] - rows[0] + 1
        self._rows = torch.tensor(rows, device=matrices[0].fast.device)
        self._fast = [self._part(matrix.fast, rows) for matrix in matrices]
        self._grad = [self._part(matrix.grad, rows) for matrix in matrices]
        self.trained = {name: view.detach().requires_grad_() for name, view in _named(flat, self._fast).items()}
        self.grads = _named(flat, self._grad)

    def load(self) -> None:
        """Bring copies of the weights up to date."""
        if not self._follow:
            for matrix, copy in zip(self._matrices, self._fast, strict=True):
                torch.index_select(matrix.fast, 0, self._rows, out=copy)

    def store(self) -> None:
        """Bring gradients from copies to their rows."""
        if not self._follow:
            for matrix, copy in zip(self._matrices, self._grad, strict=True):
                matrix.grad.index_copy_(0, self._rows, copy)

    def _part(self, matrix: Tensor, rows: Rows) -> Tensor:
        return matrix[rows[0] : rows[-1] + 1] if self._follow else matrix[self._rows]


def _named(flat: FlatModel, matrices: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the parameters inside matrices of shape (K, P) by name, shapes (K, ...)."""
    strides = {matrix.dtype: matrix.stride(0) for matrix in matrices}
    firsts = flat.named([matrix[0] for matrix in matrices])
    return {
        name: first.as_strided(
            (len(matrices[0]), *first.shape), (strides[first.dtype], *first.stride()), first.storage_offset()
        )
        for name, first in firsts.items()
    }


def _layout(flat: FlatModel) -> list[tuple[object, ...]]:
    """Return where each parameter lies in its vector."""
    vectors = [torch.empty_like(w.fast) for w in flat.weights]
    return [(name, view.shape, view.stride(), view.storage_offset()) for name, view in flat.named(vectors).items()]
