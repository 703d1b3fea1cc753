"""The mistakes of the public reference code (Entropy-SGD, Parle), each kept out by a test.

Drawing data with replacement is a matter of the batches and tested there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.unit.quadratics import START, Quadratic, close, gradient, kept, noise_table, point_of, spread_starts, train
from tests.unit.recursions import parle
from torch import Tensor

from deeprelax.coupling import Coupling, EntropySgd, Parle, Sgd
from deeprelax.coupling.inner import FlatSgd, Force
from deeprelax.coupling.weights import Weights
from deeprelax.replica.replica import Replica

STEPS, PERIOD = 20, 4
NOISE = noise_table(1, STEPS)


def test_1_entropy_sgd_scopes_gamma_because_its_counter_advances() -> None:
    shared = {"period": PERIOD, "lr": 0.05, "outer_lr": 0.5, "momentum_policy": "keep"}
    numbers: dict[str, Any] = {
        "weight_decay": 0.0,
        "averaging": 0.75,
        "outer_momentum": 0.0,
        "rho": lambda _: float("inf"),
    }
    run = train(EntropySgd(gamma="exp(2,0.1)", **shared), NOISE)

    def literal(frozen: bool) -> Tensor:
        def gamma(k: int) -> float:
            return 2.0 if frozen else 2.0 * (0.1 / 2.0) ** (k / STEPS)

        points, _ = parle(
            START[None], NOISE, period=PERIOD, lr=0.05, momentum=0.9, outer_lr=0.5, gamma=gamma, **numbers
        )
        return points

    close(run.points, literal(frozen=False))
    assert (run.points - literal(frozen=True)).abs().max() > 1e-3
    assert run.replicas[0].position.step == STEPS


def test_2_parle_counts_steps_and_exchanges_not_parameter_tensors() -> None:
    run = train(Parle(replicas=1, period=PERIOD, lr=0.05), NOISE)
    replica = run.replicas[0]
    assert len(list(replica.flat.model.parameters())) > 1
    assert (replica.position.step, replica.position.exchanges) == (STEPS, STEPS // PERIOD)


def test_2_parle_steps_outward_from_the_slow_weights_and_resets_the_average() -> None:
    coupling = Parle(replicas=1, period=2, lr=0.05, momentum=0, gamma=2.0, averaging=0.75, outer_lr=0.5)
    replica = train(coupling, NOISE[:, :2]).replicas[0]
    fast, average = START, START
    for noise in NOISE[0, :2]:
        fast = fast - 0.05 * (gradient(fast, noise) + (fast - START) / 2.0)
        average = 0.75 * average + 0.25 * fast
    slow = START - 0.5 * (START - average)
    close(point_of(replica), slow)
    close(kept(replica, "anchor"), slow)
    close(kept(replica, "average"), slow)
    assert (slow - (fast - 0.5 * (fast - average))).abs().max() > 1e-3, "stepping from y would be another point"


@pytest.mark.parametrize("outer_momentum", [0.0, 0.9])
def test_2_nesterov_adds_momentum_times_velocity_to_the_force(outer_momentum: float) -> None:
    """The first step from rest is lr (1 + m) G, where the released code makes lr · 2 G."""
    coupling = Parle(
        replicas=1, period=1, lr=0.05, momentum=0.9, averaging=0, outer_lr=1, outer_momentum=outer_momentum
    )
    run = train(coupling, NOISE[:, :1])
    inner = 0.05 * 1.9 * gradient(START, NOISE[0, 0])
    close(run.centers[0], START - (1 + outer_momentum) * inner)


def test_3_outer_momentum_starts_from_the_first_outer_force() -> None:
    run = train(EntropySgd(period=PERIOD, lr=0.05, averaging=0, outer_lr=0.5, outer_momentum=0.9), NOISE[:, :PERIOD])
    replica = run.replicas[0]
    # x¹ = x⁰ - η (1 + m) (x⁰ - y) with v = x⁰ - y.
    close(kept(replica, "outer_velocity"), (START - point_of(replica)) / (0.5 * 1.9))


@pytest.mark.parametrize("coupling", [EntropySgd(period=PERIOD, lr=0.05), Parle(replicas=1, period=PERIOD, lr=0.05)])
@pytest.mark.parametrize("lost", range(PERIOD))
def test_3_every_gradient_of_a_period_moves_the_center(coupling: Coupling, lost: int) -> None:
    other = NOISE[:, :PERIOD].clone()
    other[0, lost] += 1.0
    assert (train(coupling, NOISE[:, :PERIOD]).centers - train(coupling, other).centers).abs().min() > 1e-6


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_4_neither_spring_nor_noise_leaks_into_momentum_or_gradient(momentum: float, nesterov: bool) -> None:
    inner = FlatSgd(momentum, nesterov, weight_decay=0.0, spring="decoupled")
    w = Weights(START.clone(), torch.zeros_like(START))
    w.keep("anchor").copy_(START + 1.0)
    velocity = torch.zeros_like(START)
    for table in NOISE[0, :5]:
        w.grad.copy_(table)
        inner.step([w], Force(anchor="anchor", stiffness=2.0, noise=0.5), 0.05, torch.Generator().manual_seed(0))
        velocity = momentum * velocity + table
        assert torch.equal(w.grad, table)
        if momentum:
            close(w["velocity"], velocity)


def test_4_velocity_does_not_alias_the_gradient_when_nesterov_is_off() -> None:
    coupling = EntropySgd(period=STEPS, lr=0.05, nesterov=False, beta=100.0)
    run = train(coupling, NOISE[:, :1])
    w = run.replicas[0].weights[0]
    close(point_of(run.replicas[0], w["velocity"]), gradient(START, NOISE[0, 0]))
    close(point_of(run.replicas[0], w.grad), gradient(START, NOISE[0, 0]))
    assert w["velocity"].data_ptr() != w.grad.data_ptr()


def test_6_resumed_run_continues_the_schedules() -> None:
    coupling = Parle(replicas=1, period=PERIOD, lr="cos(0.05,0)", gamma="exp(5,0.5)", rho="exp(10,1)")
    half = train(coupling, NOISE).replicas[0]
    resumed = Replica(Quadratic(), coupling, steps_per_pass=STEPS // 2, total_steps=STEPS)
    middle = replace(half.position, step=PERIOD * 2, exchanges=2)
    resumed.restore(half.state(), step=middle.step, exchanges=middle.exchanges, coupling=coupling)
    assert resumed.position == middle
    assert coupling.knobs(resumed.position) == coupling.knobs(middle)
    assert coupling.knobs(resumed.position)["gamma"] == 5.0 * (0.5 / 5.0) ** (middle.step / STEPS)


def test_6_newcomer_continues_the_schedules_of_the_run() -> None:
    coupling = Parle(replicas=1, period=PERIOD, lr=0.05, gamma="exp(5,0.5)")
    run = train(coupling, NOISE)
    newcomer = Replica(Quadratic(), coupling, steps_per_pass=STEPS // 2, total_steps=STEPS)
    joining = newcomer.join()
    reply = run.rounds.complete([next(joining)])
    with pytest.raises(StopIteration):
        joining.send(reply)
    assert newcomer.position == run.replicas[0].position
    close(point_of(newcomer), run.centers[-1])


def test_model_of_one_tensor_and_of_many_follow_the_same_schedule() -> None:
    """Scoping per parameter tensor would make the schedule depend on how the model is cut into tensors."""
    run = train(Sgd(replicas=2, lr="lin(1,0)"), noise_table(2, STEPS), starts=spread_starts(2))
    assert {replica.position.step for replica in run.replicas} == {STEPS}
    assert run.replicas[0].coupling.knobs(run.replicas[0].position)["lr"] == 0.0
