"""The single-replica methods as PyTorch optimizers: the same steps as in a run, in a loop that belongs to the user."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.unit import recursions
from tests.unit.quadratics import START, Quadratic, close, noise_table, point_of, train
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import StepLR

from deeprelax.coupling import Coupling
from deeprelax.errors import CheckpointError, ConfigError
from deeprelax.optim import HJ, EntropySGD, Heat, Lookahead

STEPS, PERIOD = 24, 4
NOISE = noise_table(1, STEPS)
Relaxing = EntropySGD | HJ | Heat | Lookahead
CASES: list[tuple[type[Relaxing], dict[str, Any]]] = [
    (EntropySGD, {"gamma": "exp(10,1)", "beta": 1e3}),
    (EntropySGD, {"gamma": 2.0, "spring": "decoupled", "averaging": 0, "outer_momentum": 0.5, "weight_decay": 0.01}),
    (EntropySGD, {"gamma": 2.0, "optimizer": "adamw", "momentum_policy": "keep"}),
    (HJ, {"gamma": 2.0, "averaging": 0.5}),
    (HJ, {"gamma": 0.1, "variant": "fixed_point"}),
    (Heat, {"gamma": 1.0, "beta": 1e3}),
    (Lookahead, {"slow_lr": 0.5, "momentum": 0.8}),
]
LR: dict[str, Any] = {"period": PERIOD, "lr": 0.05}
every_method = pytest.mark.parametrize(("method", "fields"), CASES, ids=lambda value: str(value)[:60])


def make(method: type[Relaxing], model: nn.Module, **fields: Any) -> Relaxing:
    return method(model, total_steps=STEPS, steps_per_pass=STEPS // 2, **fields)


def steps(
    model: Quadratic,
    optimizer: Relaxing,
    noise: Tensor,
    *,
    zero: Callable[[], None] | None = None,
    after: Callable[[], None] = lambda: None,
) -> Tensor:
    """Train as a user does; return the weights after each step, shape (K, P)."""
    seen = []
    for one in noise:
        (zero or optimizer.zero_grad)()
        model(one).backward()
        optimizer.step()
        after()
        seen.append(flat(model))
    return torch.stack(seen)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).clone()


# The steps.


@every_method
def test_the_steps_are_those_of_the_coupling_in_a_run(method: type[Relaxing], fields: dict[str, Any]) -> None:
    model = Quadratic()
    optimizer = make(method, model, **LR, **fields)
    points = steps(model, optimizer, NOISE[0])
    coupling: Coupling = method.coupling(**LR, **fields)
    run = train(coupling, NOISE)
    assert torch.equal(points, run.points[0])
    with optimizer.center():
        assert torch.equal(flat(model), run.centers[-1])


def test_entropy_sgd_is_its_recursion() -> None:
    model = Quadratic()
    fields = {"gamma": 0.5, "averaging": 0.6, "outer_lr": 0.8, "momentum": 0.9, "momentum_policy": "keep"}
    points = steps(model, make(EntropySGD, model, **LR, **fields), NOISE[0])
    expected, _ = recursions.parle(
        START[None], NOISE, period=PERIOD, lr=0.05, momentum=0.9, weight_decay=0, gamma=lambda _: 0.5,
        rho=lambda _: math.inf, averaging=0.6, outer_lr=0.8, outer_momentum=0,
    )  # fmt: skip
    close(points, expected[0])


def test_lookahead_around_adamw_is_its_recursion() -> None:
    def adamw(parameters: list[nn.Parameter]) -> Optimizer:
        return AdamW(parameters, lr=0.02, weight_decay=0.1)

    model = Quadratic()
    optimizer = Lookahead(model, inner=adamw(list(model.parameters())), period=PERIOD, slow_lr=0.5)
    expected, _ = recursions.lookahead(START, NOISE[0], adamw, period=PERIOD, slow_lr=0.5)
    close(steps(model, optimizer, NOISE[0]), expected[0])


def test_the_fixed_point_of_hj_is_its_recursion() -> None:
    model = Quadratic()
    optimizer = make(HJ, model, **LR, variant="fixed_point", gamma=0.2, damping=0.5, momentum=0.9)
    centers = []
    for block in NOISE[0].split(PERIOD):
        steps(model, optimizer, block)
        centers.append(flat(model))
    _, expected = recursions.hj_fixed_point(
        START, NOISE[0], period=PERIOD, lr=0.05, momentum=0.9, gamma=0.2, damping=0.5
    )
    close(torch.stack(centers), expected)


def test_heat_without_noise_is_sgd_on_the_mean_gradient_of_a_period() -> None:
    model = Quadratic()
    optimizer = make(Heat, model, **LR, gamma=1.0, beta=math.inf, momentum=0.9)
    x, v = START.clone(), torch.zeros_like(START)
    for block in NOISE[0].split(PERIOD):
        steps(model, optimizer, block)
        p = torch.stack([recursions.slopes(x, one) for one in block]).mean(0)
        v = 0.9 * v + p
        x = x - 0.05 * (p + 0.9 * v)
        close(flat(model), x)


def test_another_seed_draws_other_noise() -> None:
    ends = []
    for seed in (0, 0, 1):
        model = Quadratic()
        ends.append(steps(model, Heat(model, **LR, gamma=1.0, beta=10, seed=seed), NOISE[0])[-1])
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


# In the user's loop.


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    model, plain = Quadratic(), Quadratic()
    optimizer = make(Lookahead, model, **LR)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(NOISE[0, 0])
        loss.backward()
        return loss

    first = float(model(NOISE[0, 0]).detach())
    loss = optimizer.step(closure)
    assert loss is not None
    assert float(loss.detach()) == first
    assert torch.equal(flat(model), steps(plain, make(Lookahead, plain, **LR), NOISE[0, :1])[-1])


@pytest.mark.parametrize("whose", ["the optimizer's", "the model's", "the inner optimizer's"])
@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_may_be_dropped_instead_of_zeroed(whose: str, to_none: bool) -> None:
    def trained(zero: Callable[[Quadratic, EntropySGD, Optimizer], Callable[[], None]]) -> Tensor:
        model = Quadratic()
        inner = AdamW(model.parameters(), lr=0.02)
        optimizer = EntropySGD(model, inner=inner, period=PERIOD, gamma=1.0)
        return steps(model, optimizer, NOISE[0], zero=zero(model, optimizer, inner))

    def dropping(model: Quadratic, optimizer: EntropySGD, inner: Optimizer) -> Callable[[], None]:
        owners: dict[str, Callable[[bool], None]] = {
            "the optimizer's": optimizer.zero_grad,
            "the model's": model.zero_grad,
            "the inner optimizer's": inner.zero_grad,
        }
        return lambda: owners[whose](to_none)

    assert torch.equal(trained(dropping), trained(lambda _, optimizer, __: optimizer.zero_grad))


def test_the_users_schedule_of_the_inner_optimizer_rules() -> None:
    def with_schedule(parameters: list[nn.Parameter]) -> tuple[Optimizer, StepLR]:
        inner = AdamW(parameters, lr=0.05)
        return inner, StepLR(inner, step_size=3, gamma=0.5)

    model, plain = Quadratic(), Quadratic()
    inner, schedule = with_schedule(list(model.parameters()))
    never = Lookahead(model, inner=inner, period=1000)
    points = steps(model, never, NOISE[0, :9], after=schedule.step)
    assert inner.param_groups[0]["lr"] == pytest.approx(0.05 / 8)
    alone, schedule = with_schedule(list(plain.parameters()))
    for one in NOISE[0, :9]:
        alone.zero_grad()
        plain(one).backward()
        alone.step()
        schedule.step()
    close(points[-1], flat(plain))


def test_a_given_lr_rules_over_the_inner_optimizers() -> None:
    model = Quadratic()
    inner = AdamW(model.parameters(), lr=123.0)
    steps(model, make(Lookahead, model, inner=inner, period=PERIOD, lr="lin(0.1,0)"), NOISE[0, :13])
    assert inner.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5)


def test_the_center_is_shown_for_a_while_and_the_model_goes_on_from_its_fast_weights() -> None:
    model = Quadratic()
    optimizer = make(Lookahead, model, **LR)
    parameters = list(model.parameters())
    steps(model, optimizer, NOISE[0, :2])
    fast = flat(model)
    with optimizer.center():
        assert torch.equal(flat(model), START), "no period has ended yet"
        assert not torch.equal(fast, START)
        saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert torch.equal(flat(model), fast)
    assert torch.equal(saved["bias"], START[6:])
    assert all(now is before for now, before in zip(model.parameters(), parameters, strict=True))
    with pytest.raises(ZeroDivisionError), optimizer.center():
        raise ZeroDivisionError
    assert torch.equal(flat(model), fast)


def test_frozen_parameters_stay() -> None:
    model = Quadratic()
    model.bias.requires_grad_(False)
    points = steps(model, make(EntropySGD, model, **LR, gamma=1.0, beta=10), NOISE[0])
    assert torch.equal(points[-1][6:], START[6:])
    assert not torch.equal(points[-1][:6], START[:6])


# Checkpoints.


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Write and read as users do; ``weights_only`` refuses anything but plain values and tensors."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@every_method
@pytest.mark.parametrize("done", [6, 8])
def test_a_run_goes_on_bit_for_bit_from_a_saved_state_in_the_middle_of_a_period(
    method: type[Relaxing], fields: dict[str, Any], done: int
) -> None:
    model = Quadratic()
    optimizer = make(method, model, **LR, **fields)
    steps(model, optimizer, NOISE[0, :done])
    weights, state = through_a_file(dict(model.state_dict())), through_a_file(optimizer.state_dict())
    whole = steps(model, optimizer, NOISE[0, done:])

    fresh = Quadratic(torch.zeros_like(START))
    fresh.load_state_dict(weights)
    again = make(method, fresh, **LR, **fields)
    again.load_state_dict(state)
    assert torch.equal(steps(fresh, again, NOISE[0, done:]), whole)


def test_saving_takes_a_copy() -> None:
    model = Quadratic()
    optimizer = make(Lookahead, model, **LR)
    steps(model, optimizer, NOISE[0, :2])
    state = optimizer.state_dict()
    steps(model, optimizer, NOISE[0, 2:6])
    optimizer.load_state_dict(state)
    assert torch.equal(flat(model), steps(fresh := Quadratic(), make(Lookahead, fresh, **LR), NOISE[0, :2])[-1])


def test_the_inner_optimizers_learning_rate_is_part_of_the_state() -> None:
    def made() -> tuple[Quadratic, EntropySGD, StepLR]:
        model = Quadratic()
        inner = AdamW(model.parameters(), lr=0.05)
        return model, EntropySGD(model, inner=inner, period=PERIOD, gamma=1.0), StepLR(inner, 3, 0.5)

    model, optimizer, schedule = made()
    steps(model, optimizer, NOISE[0, :7], after=schedule.step)
    weights, state, place = model.state_dict(), optimizer.state_dict(), schedule.state_dict()
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    whole = steps(model, optimizer, NOISE[0, 7:], after=schedule.step)

    fresh, again, schedule = made()
    fresh.load_state_dict(weights)
    again.load_state_dict(through_a_file(state))
    schedule.load_state_dict(place)
    assert torch.equal(steps(fresh, again, NOISE[0, 7:], after=schedule.step), whole)


def test_the_state_of_another_method_is_refused() -> None:
    model, other = Quadratic(), Quadratic()
    state = make(Lookahead, model, **LR).state_dict()
    with pytest.raises(CheckpointError, match="entropy_sgd on this model"):
        make(EntropySGD, other, **LR, gamma=1.0).load_state_dict(state)


# What it refuses.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gamma": 1.0}, "Missing field 'lr' of entropy_sgd. Give lr=0.05"),
        ({"lr": 0.1, "gama": 1.0}, "Did you mean 'gamma'"),
        ({"lr": 0.1, "replicas": 2}, "Must be 1"),
        ({"lr": 0.1, "gamma": "exp(100,1)"}, "give total_steps="),
        ({"lr": 0.1, "gamma": "exp(100,1,passes=2)"}, "give steps_per_pass="),
    ],
)
def test_wrong_fields_are_refused_with_the_fix(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EntropySGD(Quadratic(), **fields)
    assert message in str(caught.value)


def test_point_of_reads_the_same_weights() -> None:
    model = Quadratic()
    optimizer = make(Lookahead, model, **LR)
    assert torch.equal(point_of(optimizer.replica), flat(model))
