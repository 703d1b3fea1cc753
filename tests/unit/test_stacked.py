"""Replicas computed in one call train as they do alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.unit.stacks import digits, in_float64, relative_distance, trained
from tests.unit.toytasks import EVERYTHING, Samples, ToyConfig, toy

from deeprelax.coupling import METHODS, Coupling, LocalSgd, Parle, Sgd
from deeprelax.coupling.weights import Weights
from deeprelax.replica.task import Task

ALL_BUT_BATCHNORM = EVERYTHING | {"batchnorm": False}
COUPLED = [name for name, method in METHODS.items() if not method.single_replica]


def gap(task: Task, coupling: Coupling, *, rel: float = 1e-6, **plan: Any) -> float:
    """Return how far the vectors are apart, once the telemetry and evaluations are the same to ``rel``."""
    alone, said = trained(task, coupling, together=False, **plan)
    together, heard = trained(task, coupling, together=True, **plan)
    rows = [sorted(events, key=lambda e: (e["step"], e["replica"], e["event"])) for events in (said, heard)]
    assert len(rows[0]) == len(rows[1]) > 0
    for one, other in zip(*rows, strict=True):
        assert one.keys() == other.keys()
        assert one["event"] == other["event"]
        numbers = [{name: value for name, value in row.items() if name != "event"} for row in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=rel, abs=rel)
    return relative_distance(alone, together)


@pytest.mark.parametrize("method", COUPLED)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_coupling_trains_as_one_by_one(method: str, optimizer: str) -> None:
    # With dropout, augmentation, a frozen weight, clipping; 97 samples make batches of 7 and of 8.
    task = in_float64(toy(ToyConfig(**ALL_BUT_BATCHNORM, samples=97)))
    chosen = METHODS[method]
    period = {} if chosen().period.values == (1.0,) else {"period": 5}
    coupling = chosen(replicas=3, lr=0.02, optimizer=optimizer, **period)
    assert gap(task, coupling, steps=13, clip_norm=2.0) < 1e-12


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_networks_of_digits_train_as_one_by_one(model: str, optimizer: str) -> None:
    task = digits(model=model, hidden=24, channels=3)
    coupling = Parle(replicas=4, lr=0.02, period=4, optimizer=optimizer)
    assert gap(in_float64(task), coupling, batch_size=32, steps=10) < 1e-12
    assert gap(task, coupling, batch_size=32, steps=10, rel=1e-4) < 1e-4


@pytest.mark.parametrize(
    "coupling",
    [
        Parle(replicas=3, period=5, start="independent", data="shards"),
        Parle(replicas=3, period=5, rho="auto(100)", start="noise", data="overlap"),
        LocalSgd(replicas=2, period="lin(2,9)", momentum_policy="reset"),
        Sgd(replicas=1),
    ],
    ids=str,
)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_policy_trains_as_one_by_one(coupling: Coupling, accumulate: int) -> None:
    task = in_float64(toy(ToyConfig(**ALL_BUT_BATCHNORM)))
    assert gap(task, coupling.with_fields(lr=0.05), accumulate=accumulate) < 1e-12


def test_a_step_of_all_replicas_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    one_step = Parle.local_step

    def counted(coupling: Parle, weights: Sequence[Weights], *rest: Any) -> None:
        moved.append(weights[0].fast.numel())
        one_step(coupling, weights, *rest)

    monkeypatch.setattr(Parle, "local_step", counted)
    task = toy(ToyConfig())
    assert isinstance(task.train_data, Samples)
    (first, *_), _ = trained(task, Parle(replicas=3, lr=0.05, period=5), together=True, steps=10)
    assert [len(indices) for indices in task.train_data.fetched] == [3 * 8] * 10
    size = first.replica.weights[0].fast.numel()
    # The step before an exchange is each replica's own, since the exchange looks at its weights.
    assert moved == 2 * (4 * [3 * size] + 3 * [size])


def test_bf16_trains_as_one_by_one() -> None:
    task, coupling = toy(ToyConfig(dropout=0.2)), Parle(replicas=3, lr=0.05, period=5)
    assert gap(task, coupling, rel=0.05, precision="bf16", steps=10) < 0.05


def test_a_frozen_weight_stays_and_a_weight_without_gradient_only_decays() -> None:
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Linear(6, 3), torch.nn.Linear(2, 2)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.used(inputs)
            return outputs

    task = toy(ToyConfig())
    task.model = Half
    assert gap(in_float64(task), Parle(replicas=2, lr=0.05, period=5, weight_decay=0.1)) < 1e-12
