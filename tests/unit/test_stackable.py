"""What cannot be computed in one call is found out beforehand, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.unit.stacks import CPU, digits
from tests.unit.toytasks import CLASSES, EVERYTHING, FEATURES, ToyConfig, toy
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from deeprelax.replica.stackable import why_not
from deeprelax.replica.task import Task


class Body(nn.Module):
    """A linear layer before something odd."""

    def __init__(self, odd: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.odd = nn.Linear(FEATURES, CLASSES), odd

    def forward(self, inputs: Tensor) -> Tensor:
        return self.odd(self.linear(inputs))


class Double(torch.autograd.Function):
    """A custom function in its old form, which vmap cannot take apart."""

    @staticmethod
    def forward(_: FunctionCtx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(_: FunctionCtx, *grads: Tensor) -> Tensor:
        return 2 * grads[0]


class Counting(nn.Module):
    """Gives another answer at each call, as a network with a switch in Python would."""

    calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        Counting.calls += 1
        return inputs * Counting.calls


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(inputs[None])[0][0]
        return outputs


def attention(x: Tensor) -> Tensor:
    heads = x[:, None, :, None]
    return functional.scaled_dot_product_attention(heads, heads, heads)[:, 0, :, 0]


def reason(model: Callable[[], nn.Module]) -> str | None:
    task = toy(ToyConfig())
    task.model = model
    return why_not(task, CPU, batch_size=8)


@pytest.mark.parametrize(
    "task",
    [
        digits(),
        digits(model="mlp"),
        digits(model="mlp", dropout=0),
        toy(ToyConfig(dropout=0.5, augment=True, frozen=True)),
    ],
)
@pytest.mark.parametrize("how", [{}, {"accumulate": 3}, {"precision": "bf16"}], ids=str)
def test_small_networks_with_dropout_and_augmentation_can_be_stacked(task: Task, how: dict[str, Any]) -> None:
    assert why_not(task, CPU, batch_size=30, **how) is None


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (nn.BatchNorm1d(CLASSES), "its forward changes the buffer 'odd.running_mean', as BatchNorm does"),
        (lambda x: functional.dropout(x, 0.5), "randomness"),
        (lambda x: x + torch.randn(x.shape), "randomness"),
        (lambda x: x if x.sum() > 0 else 2 * x, "data-dependent control flow"),
        (lambda x: x * x.detach().abs().max().item(), "item()"),
        (Double.apply, "autograd.Function"),
        (Counting(), "its gradients come out different"),
        (attention, "performance drop"),
    ],
    ids=["batchnorm", "dropout function", "noise", "branch", "item", "custom function", "python state", "no rule"],
)
def test_what_cannot_be_stacked_is_refused_with_the_reason(odd: Callable[[Tensor], Tensor], words: str) -> None:
    found = reason(lambda: Body(odd))
    assert found is not None
    assert words in found
    assert "\n" not in found


def test_an_operation_without_a_rule_is_named() -> None:
    assert "lstm" in str(reason(Recurrent))


def test_a_mistake_in_the_model_is_no_reason_but_an_error() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        reason(lambda: nn.Linear(FEATURES + 1, CLASSES))


def test_finding_out_leaves_the_users_own_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    why_not(toy(ToyConfig(**(EVERYTHING | {"batchnorm": False}))), CPU, batch_size=8)
    assert torch.equal(torch.get_rng_state(), before)
