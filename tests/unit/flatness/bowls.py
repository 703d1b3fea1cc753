"""Tasks whose loss is a given function of the weights, in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from deeprelax.flatness import Landscape
from deeprelax.pde import Potential
from deeprelax.replica.task import Task


class Point(nn.Module):
    """Weights that are one point, whose output is f there, once a sample."""

    def __init__(self, f: Callable[[Tensor], Tensor], x: Tensor) -> None:
        super().__init__()
        self.f = f
        self.x = nn.Parameter(x.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.f(self.x).expand(len(inputs))


def _mean(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs + 0 * targets).mean()


def task_of(f: Callable[[Tensor], Tensor] | Potential, x: Tensor) -> Task:
    data = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    return Task(model=partial(Point, f, x), train=data, test=data, loss=_mean)


def landscape_of(f: Callable[[Tensor], Tensor] | Potential, x: Tensor) -> Landscape:
    task = task_of(f, x)
    return Landscape(task.model(), task.loss, [task.train_data.batch(torch.arange(1))])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotated(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """Return a symmetric matrix with these eigenvalues and random eigenvectors."""
    size = len(eigenvalues)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator(seed), dtype=torch.float64)).Q
    matrix: Tensor = basis @ torch.diag(eigenvalues.double()) @ basis.T
    return (matrix + matrix.T) / 2
