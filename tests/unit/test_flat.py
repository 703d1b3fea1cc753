"""Flat storage: every kind of parameter keeps its value, shape and identity, or is refused with a clear error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deeprelax.coupling import METHODS, Coupling, EntropySgd, Parle, Sgd
from deeprelax.errors import ConfigError
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.flat import FlatModel
from deeprelax.replica.replica import Replica


class Tied(nn.Module):
    """An output layer that shares its weight with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.output = nn.Linear(6, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.embedding(tokens))  # type: ignore[no-any-return]


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def transposed() -> nn.Module:
    model = nn.Linear(3, 5)
    model.weight = nn.Parameter(torch.randn(3, 5).t())
    return model


def sliced() -> nn.Module:
    model = nn.Linear(3, 5)
    model.weight = nn.Parameter(torch.randn(5, 8)[:, ::2][:, :3])
    return model


def expanded() -> nn.Module:
    model = nn.Linear(3, 5)
    model.bias = nn.Parameter(torch.randn(1).expand(5))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(3, 5),
    "scalar": nn.PReLU,
    "batchnorm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
    "channels_last": lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    "transposed": transposed,
    "sliced": sliced,
    "expanded": expanded,
    "lstm": lambda: nn.LSTM(4, 5, num_layers=2),
    "tied": Tied,
    "mixed": lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2).bfloat16(), nn.Linear(2, 2).double()),
}


@pytest.mark.parametrize("name", MODELS)
def test_binding_keeps_values_shapes_and_identity(name: str) -> None:
    model = MODELS[name]()
    before, objects = parameters_of(model), list(model.parameters())
    flat = FlatModel(model)
    assert list(map(id, model.parameters())) == list(map(id, objects))
    for key, parameter in model.named_parameters():
        assert torch.equal(parameter, before[key])
        assert parameter.shape == before[key].shape
    assert flat.parameters_count == sum(value.numel() for value in before.values())


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_gradients_are_aligned_views_of_the_flat_vectors(name: str) -> None:
    model = MODELS[name]()
    flat = FlatModel(model)
    fast = {w.fast.dtype: w for w in flat.weights}
    assert len(fast) == len(flat.weights)
    for parameter in model.parameters():
        w = fast[parameter.dtype]
        assert parameter.untyped_storage().data_ptr() == w.fast.untyped_storage().data_ptr()
        assert parameter.grad is not None
        assert parameter.grad.untyped_storage().data_ptr() == w.grad.untyped_storage().data_ptr()
        assert (parameter.data_ptr() - w.fast.data_ptr()) % 64 == 0
    for w in flat.weights:
        w.fast.fill_(2.0)
    assert all(bool((parameter == 2.0).all()) for parameter in model.parameters())


@pytest.mark.parametrize("name", ["channels_last", "transposed"])
def test_dense_strides_are_kept(name: str) -> None:
    model = MODELS[name]()
    strides = [parameter.stride() for parameter in model.parameters()]
    FlatModel(model)
    assert [parameter.stride() for parameter in model.parameters()] == strides


@pytest.mark.parametrize("name", ["channels_last", "transposed", "sliced", "expanded", "batchnorm"])
def test_backward_fills_the_flat_gradient_of_any_layout(name: str) -> None:
    def gradients(model: nn.Module) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)
        images = isinstance(model, nn.Conv2d | nn.Sequential)
        inputs = torch.randn((2, 3, 6, 6) if images else (4, 3), generator=generator)
        model(inputs).square().sum().backward()
        return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    torch.manual_seed(0)
    plain = MODELS[name]()
    torch.manual_seed(0)
    model = MODELS[name]()
    flat = FlatModel(model)
    expected, seen = gradients(plain), gradients(model)
    inside = flat.named([w.grad for w in flat.weights])
    for key, value in expected.items():
        torch.testing.assert_close(seen[key], value)
        torch.testing.assert_close(inside[key], value)


def test_tied_weights_are_stored_once_and_collect_both_gradients() -> None:
    torch.manual_seed(0)
    model = Tied()
    tokens = torch.tensor([1, 2, 2])
    model(tokens).square().sum().backward()
    assert model.embedding.weight.grad is not None
    expected = model.embedding.weight.grad.clone()
    flat = FlatModel(model)
    flat.zero_grad()
    assert flat.parameters_count == 66
    model(tokens).square().sum().backward()
    torch.testing.assert_close(flat.named([flat.weights[0].grad])["embedding.weight"], expected)
    assert model.output.weight is model.embedding.weight


def test_frozen_parameters_and_buffers_stay_where_they_are() -> None:
    frozen, norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
    model = nn.Sequential(frozen, norm)
    frozen.weight.requires_grad_(False)
    pointer, before = frozen.weight.data_ptr(), frozen.weight.clone()
    flat = FlatModel(model)
    flat.weights[0].fast.zero_()
    assert frozen.weight.data_ptr() == pointer
    assert torch.equal(frozen.weight, before)
    assert flat.parameters_count == 3 + 6
    assert "0.weight" not in flat.named([flat.weights[0].fast])
    model(torch.randn(4, 3))
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 1


def test_mixed_dtypes_train_as_one_vector_each() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2).bfloat16())
    before = parameters_of(model)
    replica = Replica(model, Sgd(replicas=1, lr=0.1, momentum=0))
    assert [w.fast.dtype for w in replica.weights] == [torch.bfloat16, torch.float32]
    model[1](model[0](torch.ones(1, 3)).bfloat16()).sum().backward()
    stepping = replica.step()
    with pytest.raises(StopIteration):
        stepping.send(Rounds().complete([next(stepping)]))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * parameter.grad)
        assert not torch.equal(parameter.detach(), before[name])


def test_gradients_replaced_by_set_to_none_are_collected() -> None:
    used = nn.Linear(3, 5)
    model = nn.Sequential(used, nn.Linear(5, 2))
    flat = FlatModel(model)
    flat.weights[0].grad.fill_(7.0)
    model.zero_grad(set_to_none=True)
    used(torch.ones(1, 3)).sum().backward()
    own = used.weight.grad
    assert own is not None
    flat.collect_grads()
    inside = flat.named([flat.weights[0].grad])
    assert torch.equal(inside["0.weight"], own)
    assert bool((inside["1.weight"] == 0).all()), "a parameter without gradient has gradient 0"
    assert used.weight.grad is not None
    assert used.weight.grad.data_ptr() == inside["0.weight"].data_ptr()


def test_zero_grad_clears_and_reattaches() -> None:
    model = nn.Linear(3, 5)
    flat = FlatModel(model)
    model.zero_grad(set_to_none=True)
    model(torch.ones(1, 3)).sum().backward()
    flat.zero_grad()
    model(torch.ones(1, 3)).sum().backward()
    assert bool((flat.named([flat.weights[0].grad])["weight"] == 1).all())


def test_optimizer_built_before_binding_moves_the_flat_weights() -> None:
    model = nn.Linear(3, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flat = FlatModel(model)
    before = flat.weights[0].fast.clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(flat.weights[0].fast, before - 0.1 * flat.weights[0].grad)


def test_lstm_computes_with_the_vectors_shown_and_with_its_own_afterwards() -> None:
    torch.manual_seed(0)
    model, other = nn.LSTM(4, 5), nn.LSTM(4, 5)
    flat, shown = FlatModel(model), FlatModel(other)
    inputs = torch.randn(2, 1, 4)
    own, theirs = model(inputs)[0], other(inputs)[0]
    with flat.showing([shown.weights[0].fast]) as same:
        assert same is model
        torch.testing.assert_close(model(inputs)[0], theirs, rtol=0, atol=0)
    torch.testing.assert_close(model(inputs)[0], own, rtol=0, atol=0)


def test_model_gets_its_weights_back_after_an_error_under_showing() -> None:
    model = nn.Linear(3, 5)
    flat = FlatModel(model)
    before = model.weight.detach().clone()
    with (
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
        flat.showing([torch.zeros_like(flat.weights[0].fast)]),
    ):
        model(torch.ones(1, 4))
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    "coupling",
    [
        EntropySgd(lr=0.1, beta=1.0, gamma=1.0, outer_momentum=0.9),
        METHODS["heat"](lr=0.1, gamma=1.0, beta=1.0, period=1),
        Parle(lr=0.1, gamma=1.0, rho=1.0, replicas=1, period=1, optimizer="adamw"),
    ],
    ids=lambda coupling: coupling.method(),
)
def test_padding_stays_zero_under_noise_and_optimizers(coupling: Coupling) -> None:
    model = nn.Linear(3, 5)
    replica = Replica(model, coupling)
    w, rounds = replica.weights[0], Rounds()
    assert w.fast.numel() > replica.flat.parameters_count
    used = torch.zeros_like(w.fast)
    with replica.flat.showing([used]):
        for parameter in model.parameters():
            parameter.data.fill_(1.0)
    loop = replica.join()
    with pytest.raises(StopIteration):
        loop.send(rounds.complete([next(loop)]))
    for _ in range(3):
        replica.flat.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        stepping = replica.step()
        for message in stepping:
            with pytest.raises(StopIteration):
                stepping.send(rounds.complete([message]))
            break
    vectors = {"fast": w.fast, **{name: w[name] for name in w}}
    for name, vector in vectors.items():
        assert bool((vector[used == 0] == 0).all()), name
    assert bool((w.fast[used == 1] != 0).all())


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.kind == "center"])
def test_what_is_sent_is_a_vector_the_replica_holds_not_a_copy(name: str) -> None:
    replica = Replica(nn.Linear(3, 5), METHODS[name](lr=0.1), total_steps=10, steps_per_pass=5)
    w = replica.weights[0]
    assert next(replica.join()).vectors[0].data_ptr() == w.fast.data_ptr()
    held = {w.fast.data_ptr(), *(w[vector].data_ptr() for vector in w)}
    assert replica.coupling.message(w).data_ptr() in held


# What cannot be bound.


def without_trained() -> nn.Module:
    model = nn.Linear(3, 5)
    return model.requires_grad_(False)


def sharing(*, frozen: bool = False) -> nn.Module:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = nn.Parameter(first.weight.data, requires_grad=not frozen)
    return nn.Sequential(first, second)


def overlapping() -> nn.Module:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    block = torch.randn(4, 3)
    first.weight, second.weight = nn.Parameter(block[:3]), nn.Parameter(block[1:])
    return nn.Sequential(first, second)


def sharing_with_frozen() -> nn.Module:
    return sharing(frozen=True)


def sharing_with_buffer() -> nn.Module:
    model = nn.Linear(3, 3)
    model.register_buffer("copy", model.weight.data)
    return model


@pytest.mark.parametrize(
    ("make", "fragments"),
    [
        (without_trained, ["no trained parameter", "requires_grad=True"]),
        (lambda: nn.Linear(3, 5).half(), ["float16", "'weight'", "float32, float64 or bfloat16", 'precision="bf16"']),
        (lambda: nn.Linear(3, 5, dtype=torch.complex64), ["complex64", "'weight'"]),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")), ["several devices", "cpu", "meta"]),
        (sharing, ["'0.weight'", "'1.weight'", "same nn.Parameter object"]),
        (overlapping, ["'0.weight'", "'1.weight'", "share memory"]),
        (sharing_with_frozen, ["'0.weight'", "'1.weight'", "share memory"]),
        (sharing_with_buffer, ["'weight'", "'copy'", "share memory"]),
    ],
)
def test_model_that_cannot_be_bound_is_refused_and_left_as_it_was(
    make: Callable[[], nn.Module], fragments: list[str]
) -> None:
    model = make()
    pointers = [parameter.data_ptr() for parameter in model.parameters()]
    with pytest.raises(ConfigError) as caught:
        FlatModel(model)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert [parameter.data_ptr() for parameter in model.parameters()] == pointers
