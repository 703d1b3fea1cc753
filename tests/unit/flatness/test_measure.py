"""Measuring a model: fixed samples, the same numbers twice, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.flatness.bowls import generator
from tests.unit.tinydata import build, write_files
from tests.unit.toytasks import EVERYTHING, Samples, ToyConfig, toy
from torch import Tensor, nn

from deeprelax.errors import ConfigError, DivergedError
from deeprelax.flatness import FlatnessConfig, Landscape, measure
from deeprelax.flatness.measure import refuse_unmeasurable
from deeprelax.replica.task import Task

FAST = FlatnessConfig(steps=2, chains=3, probes=2, samples=40)


def toy_model(task: Task) -> nn.Module:
    torch.manual_seed(0)
    return task.model()


def test_the_same_model_gives_the_same_numbers_twice_and_other_seeds_others() -> None:
    task = toy(ToyConfig(**EVERYTHING))
    model = toy_model(task)
    first = measure(model, task, FAST)
    torch.manual_seed(99)
    assert measure(model, task, FAST) == first
    other = measure(model, task, FlatnessConfig(steps=2, chains=3, probes=2, samples=40, seed=1))
    assert other.loss != first.loss, "other samples"


def test_a_measurement_leaves_nothing_behind() -> None:
    task = toy(ToyConfig(**EVERYTHING))
    model = toy_model(task).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [parameter.grad for parameter in model.parameters()]
    random = torch.get_rng_state()
    measure(model, task, FAST)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [parameter.grad for parameter in model.parameters()] == gradients
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())


class Counting(nn.Module):
    """Counts its calls in a buffer, in evaluation mode too."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.layer(inputs)
        return logits


def test_a_buffer_that_a_model_writes_is_given_back() -> None:
    task = toy(ToyConfig())
    task.model = Counting
    model = toy_model(task)
    assert isinstance(model, Counting)
    measure(model, task, FAST)
    assert int(model.calls) == 0


def test_the_loss_is_that_of_distinct_training_samples_in_evaluation_mode() -> None:
    task = toy(ToyConfig(**EVERYTHING))
    model = toy_model(task)
    found = measure(model, task, FAST)
    assert isinstance(task.train_data, Samples)
    indices = task.train_data.fetched[-1]
    assert len(set(indices.tolist())) == 40
    inputs, targets = task.train_data.inputs[indices], task.train_data.targets[indices]
    expected = nn.functional.cross_entropy(model.eval()(inputs), targets)
    assert found.loss == pytest.approx(float(expected.detach()), rel=1e-6)


def test_all_samples_are_taken_if_there_are_fewer_than_asked_for() -> None:
    task = toy(ToyConfig(samples=24))
    measure(toy_model(task), task, FAST)
    assert isinstance(task.train_data, Samples)
    assert task.train_data.fetched[-1].tolist() == list(range(24))


def test_the_batch_saves_memory_and_does_not_change_the_loss_its_gradient_and_its_curvature() -> None:
    task = toy(ToyConfig(batchnorm=True))
    model = toy_model(task).eval()
    whole, parts = (
        Landscape(model, task.loss, [task.train_data.batch(part) for part in torch.arange(96).tensor_split(count)])
        for count in (1, 7)
    )
    vector = torch.randn(whole.point.shape, generator=generator())
    near = whole.point + 0.1 * vector
    assert parts.value(near) == pytest.approx(whole.value(near), rel=1e-5)
    torch.testing.assert_close(parts.value_and_gradient(near)[1], whole.value_and_gradient(near)[1])
    torch.testing.assert_close(parts.hessian_times(vector), whole.hessian_times(vector), rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    """One matrix in two places, and a bfloat16 parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.ones(6, dtype=torch.bfloat16))

    def forward(self, inputs: Tensor) -> Tensor:
        scaled: Tensor = self.second(self.first(inputs)) * self.scale
        return scaled


def test_tied_weights_are_one_and_other_number_types_are_measured() -> None:
    task = toy(ToyConfig())
    task.model = Tied
    model = toy_model(task)
    landscape = Landscape(model, task.loss, [task.train_data.batch(torch.arange(96))])
    assert landscape.point.shape == (42,)
    assert landscape.point.dtype == torch.float32
    _, gradient = landscape.value_and_gradient(landscape.point)
    inputs, targets = task.train_data.batch(torch.arange(96))
    task.loss(model(inputs), targets).backward()
    assert isinstance(model, Tied)
    assert model.first.weight.grad is not None
    ours = dict(zip(("matrix", "scale"), gradient.split([36, 6]), strict=True))
    by_order = [name for name, _ in model.named_parameters()]
    if by_order[0] == "scale":
        ours = dict(zip(("scale", "matrix"), gradient.split([6, 36]), strict=True))
    torch.testing.assert_close(ours["matrix"].view(6, 6), model.first.weight.grad)


def test_attention_is_differentiated_twice(tmp_path: Path) -> None:
    write_files(tmp_path)
    task = build("char_lm", tmp_path)
    found = measure(toy_model(task), task, FlatnessConfig(steps=1, chains=3, probes=2, samples=2))
    assert found.top_eigenvalue > 0


class Nearest(nn.Module):
    """Logits are distances to prototypes; torch knows no second derivative of this one."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(3, 6))

    def forward(self, inputs: Tensor) -> Tensor:
        return -torch.cdist(inputs, self.prototypes, p=3.0)


def test_a_model_that_cannot_be_differentiated_twice_is_refused_before_the_run() -> None:
    task = toy(ToyConfig())
    refuse_unmeasurable(task)
    task.model = Nearest
    with pytest.raises(ConfigError, match="cannot be differentiated twice"):
        refuse_unmeasurable(task)


def test_weights_without_a_finite_loss_have_no_flatness() -> None:
    task = toy(ToyConfig(poisoned=True))
    with pytest.raises(DivergedError, match="training loss is nan"):
        measure(toy_model(task), task, FAST)
