"""How the center, the replicas and their ensemble are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.toyruns import train
from tests.unit.toytasks import FEATURES, ToyConfig, toy
from torch import Tensor, nn

from deeprelax import fit
from deeprelax.coupling import Coupling, LocalSgd, Parle, Sgd
from deeprelax.execution.result import RunResult
from deeprelax.replica.checkpoint import read_tensors
from deeprelax.replica.evaluation import EVALUATION_BATCH, evaluate
from deeprelax.replica.flat import FlatModel
from deeprelax.replica.start import batches_of, build_model
from deeprelax.replica.task import Task

DEVICE = torch.device("cpu")


def center_model(result: RunResult, config: dict[str, Any]) -> nn.Sequential:
    model = build_model(toy(ToyConfig(**config)), Sgd(), 0, 0)
    assert isinstance(model, nn.Sequential)
    result.load_into(model)
    return model


@pytest.mark.parametrize("samples", [96, 97])
def test_recalibrated_statistics_are_those_of_a_pass_over_the_data_under_the_centers_weights(
    samples: int, tmp_path: Path
) -> None:
    # 97 samples in batches of 8: a pass in plain slices would end with one sample, which BatchNorm refuses.
    config: dict[str, Any] = {"batchnorm": True, "dropout": 0.5, "samples": samples}
    result = train(tmp_path / "run", Parle(replicas=3, period=5), config)
    model = center_model(result, config)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    inputs = toy(ToyConfig(**config)).train_data.batch(torch.arange(samples))[0]
    hidden = [model[0](part) for part in inputs.tensor_split(-(-samples // 8))]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, torch.stack([part.mean(0) for part in hidden]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([part.var(0) for part in hidden]).mean(0))
    assert norm.momentum == 0.1


def statistics_after_one_step(coupling: Coupling, a: int) -> Tensor:
    """Return the running mean of replica ``a`` after its first batch, by hand."""
    task = toy(ToyConfig(batchnorm=True))
    model = build_model(task, coupling, 3, a)
    model(task.train_data.batch(batches_of(task, coupling, 8, 3, a).of_pass(0)[0])[0])
    assert isinstance(model, nn.Sequential)
    assert isinstance(model[1].running_mean, Tensor)
    return model[1].running_mean


@pytest.mark.parametrize(("policy", "members"), [("average", 3), ("local", 1)])
def test_the_center_has_averaged_statistics_or_those_of_replica_0(policy: str, members: int, tmp_path: Path) -> None:
    coupling = LocalSgd(replicas=3, period=1, batchnorm=policy)
    result = train(tmp_path / "run", coupling, {"batchnorm": True}, steps=1)
    expected = torch.stack([statistics_after_one_step(coupling, a) for a in range(members)]).mean(0)
    torch.testing.assert_close(result.state_dict()["1.running_mean"], expected)
    own = [read_tensors(path)["buffer.1.running_mean"] for path in result.run_dir.glob("checkpoints/*/replica-*s")]
    assert len(own) == 3
    equal = all(torch.equal(one, own[0]) for one in own)
    assert equal == (policy == "average")


def test_the_replicas_keep_their_own_statistics_when_the_center_is_recalibrated(tmp_path: Path) -> None:
    result = train(tmp_path / "run", LocalSgd(replicas=2, period=1), {"batchnorm": True}, steps=1)
    for a in range(2):
        saved = read_tensors(result.run_dir / "checkpoints" / "step-00000001" / f"replica-{a:03d}.safetensors")
        torch.testing.assert_close(saved["buffer.1.running_mean"], statistics_after_one_step(LocalSgd(replicas=2), a))
        assert not torch.allclose(saved["buffer.1.running_mean"], result.state_dict()["1.running_mean"])


def test_an_evaluation_counts_each_sample_once_whatever_the_batches() -> None:
    task = toy(ToyConfig(test_samples=EVALUATION_BATCH + 5, dropout=0.5))
    model = build_model(task, Sgd(), 0, 0)
    inputs, targets = task.test_data.batch(torch.arange(EVALUATION_BATCH + 5))
    model.eval()
    outputs = model(inputs).detach()
    error = float((outputs.argmax(-1) != targets).double().mean())
    model.train()
    metrics = evaluate(model, task, DEVICE)
    assert metrics["error"] == pytest.approx(error, abs=1e-12)
    assert metrics["loss"] == pytest.approx(float(nn.functional.cross_entropy(outputs, targets)), rel=1e-5)
    assert model.training, "the model is left as it was"


def test_the_center_is_judged_at_the_first_exchange_after_each_interval_and_at_the_end(tmp_path: Path) -> None:
    result = train(tmp_path / "run", Parle(replicas=2, period=5), steps=38, evaluate_every=0.5)
    assert [row["step"] for row in result.history()] == [10, 15, 20, 25, 30, 38]
    assert [row["passes"] for row in result.history()][-1] == pytest.approx(38 / 12)


def test_the_last_incomplete_period_is_exchanged(tmp_path: Path) -> None:
    result = train(tmp_path / "run", LocalSgd(replicas=3, period=8), steps=20)
    ends = [read_tensors(path)["fast.0"] for path in sorted(result.run_dir.glob("checkpoints/*20/replica-*s"))]
    assert all(torch.equal(end, ends[0]) for end in ends)
    assert result.telemetry()[-1]["exchanges"] == 3


def test_ensemble_and_replicas_are_judged_as_by_hand(tmp_path: Path) -> None:
    config: dict[str, Any] = {"batchnorm": True, "dropout": 0.2, "test_samples": 500}
    coupling = Parle(replicas=3, period=5, start="independent")
    result = train(tmp_path / "run", coupling, config, steps=12, report=("replicas", "ensemble"))
    task = toy(ToyConfig(**config))
    inputs, targets = task.test_data.batch(torch.arange(500))
    probabilities, errors = [], []
    for a in range(3):
        saved = read_tensors(result.run_dir / "checkpoints" / "step-00000012" / f"replica-{a:03d}.safetensors")
        model = build_model(task, coupling, 3, a)
        FlatModel(model).load([saved["fast.0"]])
        model.load_state_dict(model.state_dict() | {k[7:]: v for k, v in saved.items() if k.startswith("buffer.")})
        model.eval()
        with torch.no_grad():
            probabilities.append(model(inputs).softmax(-1))
        errors.append(float((probabilities[-1].argmax(-1) != targets).double().mean()))
    mean = float((torch.stack(probabilities).mean(0).argmax(-1) != targets).double().mean())
    assert len({*errors, mean}) > 2, "the case must be able to tell them apart"
    assert result.metrics["ensemble/error"] == pytest.approx(mean, abs=1e-9)
    assert result.metrics["replicas/error_mean"] == pytest.approx(sum(errors) / 3, abs=1e-6)
    assert result.metrics["replicas/error_best"] == pytest.approx(min(errors), abs=1e-6)


def test_replicas_of_a_task_without_an_error_can_be_judged(tmp_path: Path) -> None:
    def regression() -> Task:
        data = (torch.randn(16, FEATURES), torch.randn(16, 1))
        return Task(
            model=lambda: nn.Linear(FEATURES, 1),
            train=data,
            test=data,
            loss=nn.functional.mse_loss,
            metrics=lambda outputs, targets: {"distance": (outputs - targets).abs()},
            batch_size=8,
        )

    result = fit(
        regression, coupling=Parle(replicas=2, period=5), local=True, run_dir=tmp_path / "run", steps=10,
        report=("replicas",), show_progress=False,
    )  # fmt: skip
    assert sorted(result.metrics) == ["center/distance", "center/loss"]
