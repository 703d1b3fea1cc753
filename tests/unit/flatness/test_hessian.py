"""Sharpness against matrices that are known, and against the Hessian of a small network written out."""

from __future__ import annotations

import math

import pytest
import torch
from tests.unit.flatness.bowls import generator, landscape_of, rotated
from tests.unit.toytasks import ToyConfig, toy
from torch import Tensor, nn
from torch.func import functional_call

from deeprelax.errors import DivergedError
from deeprelax.flatness import Landscape
from deeprelax.flatness.hessian import top_eigenvalue, trace
from deeprelax.pde import quadratic
from deeprelax.replica.task import Task


@pytest.mark.parametrize("size", [1, 2, 32, 33, 120])
def test_the_top_eigenvalue_of_a_quadratic_is_the_most_positive_one(size: int) -> None:
    # The most negative one is larger in magnitude: a power iteration would find it.
    eigenvalues = torch.linspace(-20, 7, size) if size > 1 else torch.tensor([-20.0])
    landscape = landscape_of(quadratic(rotated(eigenvalues)), torch.ones(size, dtype=torch.float64))
    assert top_eigenvalue(landscape, generator()) == pytest.approx(float(eigenvalues[-1]), rel=2e-3)


@pytest.mark.parametrize("size", [3, 50])
def test_a_linear_loss_has_no_curvature(size: int) -> None:
    landscape = landscape_of(lambda x: 2 * x.sum(), torch.ones(size, dtype=torch.float64))
    assert top_eigenvalue(landscape, generator()) == 0
    assert trace(landscape, 3, generator()).value == 0


def test_the_trace_has_no_bias_and_the_stated_standard_error() -> None:
    matrix = rotated(torch.linspace(-3, 9, 40))
    landscape = landscape_of(quadratic(matrix), torch.zeros(40, dtype=torch.float64))
    probes = 400
    found = trace(landscape, probes, generator())
    variance = 2 * float(matrix.square().sum() - matrix.diagonal().square().sum())
    assert found.stderr == pytest.approx(math.sqrt(variance / probes), rel=0.15)
    assert abs(found.value - float(matrix.trace())) < 4 * found.stderr
    assert found.stderr < 0.02 * float(matrix.trace())


def test_the_trace_of_a_diagonal_hessian_is_exact() -> None:
    landscape = landscape_of(quadratic(torch.diag(torch.arange(1.0, 6.0).double())), torch.ones(5).double())
    found = trace(landscape, 2, generator())
    assert found.value == pytest.approx(15, abs=1e-12)
    assert found.stderr == pytest.approx(0, abs=1e-12)


def written_out(model: nn.Module, task: Task) -> Tensor:
    """Return the Hessian of the mean training loss over the trained parameters."""
    inputs, targets = task.train_data.batch(torch.arange(len(task.train_data)))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def loss(point: Tensor) -> Tensor:
        parts = point.split([parameter.numel() for parameter in trained.values()])
        shaped = {name: part.view_as(trained[name]) for name, part in zip(trained, parts, strict=True)}
        return task.loss(functional_call(model, shaped, (inputs,)), targets)

    point = torch.cat([parameter.detach().flatten() for parameter in trained.values()])
    hessian = torch.autograd.functional.hessian(loss, point)
    assert isinstance(hessian, Tensor)
    return hessian


@pytest.mark.parametrize("frozen", [False, True])
def test_a_small_network_has_the_sharpness_of_its_hessian_written_out(frozen: bool) -> None:
    task = toy(ToyConfig(batchnorm=True, dropout=0.5, frozen=frozen))
    torch.manual_seed(0)
    model = task.model().eval()
    hessian = written_out(model, task)
    parts = torch.arange(96).tensor_split(5)
    landscape = Landscape(model, task.loss, [task.train_data.batch(part) for part in parts])
    assert len(landscape.point) == (51 if frozen else 99)
    vector = torch.randn(len(hessian), generator=generator())
    torch.testing.assert_close(landscape.hessian_times(vector), hessian @ vector, rtol=1e-4, atol=1e-5)
    assert top_eigenvalue(landscape, generator()) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=2e-3)
    found = trace(landscape, 64, generator())
    assert abs(found.value - float(hessian.trace())) < 4 * found.stderr
    assert found.stderr < 0.2 * float(hessian.trace())


def test_a_curvature_that_is_not_finite_is_refused() -> None:
    landscape = landscape_of(lambda x: x.abs().pow(1.5).sum(), torch.zeros(40, dtype=torch.float64))
    with pytest.raises(DivergedError, match="not finite"):
        top_eigenvalue(landscape, generator())
