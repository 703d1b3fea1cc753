"""What the methods are equal to: each other, torch's own optimizers, and their equations written out. All within 1e-12.

A noisy quadratic in float64, fixed seeds; replicas start apart and see different noise unless a test says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.unit import recursions
from tests.unit.quadratics import HESSIAN, MINIMUM, START, close, kept, noise_table, spread_starts, torch_sgd, train
from torch import Tensor, nn

from deeprelax.coupling import (
    METHODS,
    Coupling,
    Diloco,
    Eamsgd,
    Easgd,
    ElasticSgd,
    EntropySgd,
    Heat,
    HierarchicalParle,
    Hj,
    LocalSgd,
    Lookahead,
    Lsgd,
    Parle,
    Rsgd,
    Sgd,
)
from deeprelax.coupling.stability import nesterov_limit
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica, Steps

STEPS, PERIOD, REPLICAS = 24, 4, 3
STARTS, NOISE = spread_starts(REPLICAS), noise_table(REPLICAS, STEPS)
FOUR_STARTS, FOUR_NOISE = spread_starts(4), noise_table(4, STEPS)
ONE_START, ONE_NOISE = STARTS[:1], NOISE[:1]
PLAIN: dict[str, Any] = {"period": PERIOD, "lr": 0.05, "momentum": 0.9}


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, nesterov=True)


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


ADAMW: dict[str, Any] = {"optimizer": "adamw", "optimizer_options": {"weight_decay": 0.1}, "lr": 0.02}


def same_paths(left: Coupling, right: Coupling, starts: Tensor = STARTS, noise: Tensor = NOISE) -> None:
    one, other = train(left, noise, starts=starts), train(right, noise, starts=starts)
    close(one.points, other.points)
    close(one.centers, other.centers)


# Equalities of methods with each other.


@pytest.mark.parametrize("outer_momentum", [0.0, 0.9])
def test_parle_with_one_replica_and_no_outer_spring_is_entropy_sgd_without_noise(outer_momentum: float) -> None:
    shared = {
        "gamma": "exp(5,0.5)",
        "outer_lr": 0.6,
        "outer_momentum": outer_momentum,
        "momentum_policy": "keep",
    } | PLAIN
    same_paths(Parle(replicas=1, rho=math.inf, **shared), EntropySgd(beta=math.inf, **shared), ONE_START, ONE_NOISE)


def test_hj_by_descent_is_entropy_sgd_without_noise() -> None:
    shared = {"gamma": "exp(5,0.5)", "outer_lr": 0.6, "averaging": 0.75, "momentum_policy": "keep"} | PLAIN
    same_paths(Hj(**shared), EntropySgd(beta=math.inf, **shared), ONE_START, ONE_NOISE)


@pytest.mark.parametrize("optimizer", [{}, ADAMW])
def test_entropy_sgd_without_spring_noise_and_average_is_lookahead(optimizer: dict[str, object]) -> None:
    shared = PLAIN | {"momentum_policy": "keep"} | optimizer
    free = EntropySgd(gamma=math.inf, beta=math.inf, averaging=0, outer_lr=0.5, **shared)
    same_paths(free, Lookahead(slow_lr=0.5, **shared), ONE_START, ONE_NOISE)


@pytest.mark.parametrize("outer_momentum", [0.0, 0.9])
@pytest.mark.parametrize("rho", [10.0, 0.9, "exp(10,0.8)"])
def test_mean_of_parle_is_independent_of_rho(rho: float | str, outer_momentum: float) -> None:
    shared = {"replicas": REPLICAS, "gamma": 2.0, "outer_lr": 0.4, "outer_momentum": outer_momentum} | PLAIN
    coupled = train(Parle(rho=rho, **shared), NOISE, starts=STARTS)
    free = train(Parle(rho=math.inf, **shared), NOISE, starts=STARTS)
    close(coupled.centers, free.centers)
    assert (coupled.points - free.points).abs().max() > 1e-3, "the replicas themselves must feel rho"


def test_mean_of_parle_without_inner_spring_and_average_is_an_outer_step_of_diloco() -> None:
    parle = Parle(replicas=REPLICAS, gamma=math.inf, averaging=0, outer_lr=0.7, rho=2.0, **PLAIN)
    diloco = Diloco(replicas=REPLICAS, outer_lr=0.7, outer_momentum=0, **PLAIN)
    one, other = train(parle, NOISE[:, :PERIOD], starts=STARTS), train(diloco, NOISE[:, :PERIOD], starts=STARTS)
    assert len(one.centers) == 1
    close(one.centers, other.centers)


def test_hierarchical_parle_with_a_deputy_for_each_worker_is_parle() -> None:
    shared = {"replicas": REPLICAS, "gamma": "exp(5,0.5)", "rho": 2.0, "outer_lr": 0.6, "outer_momentum": 0.9} | PLAIN
    same_paths(HierarchicalParle(groups=REPLICAS, center_every=1, **shared), Parle(**shared))


def test_hierarchical_parle_with_one_deputy_without_spring_and_average_is_diloco_without_outer_momentum() -> None:
    one = HierarchicalParle(
        replicas=REPLICAS, groups=1, center_every=1, gamma=math.inf, averaging=0, outer_lr=0.7, rho=2.0, **PLAIN
    )
    # One deputy is the sheriff, so its spring is slack: once they have met.
    same_paths(one, Diloco(replicas=REPLICAS, outer_lr=0.7, outer_momentum=0, **PLAIN), START.expand_as(STARTS))


def test_diloco_with_outer_lr_1_and_no_outer_momentum_is_local_sgd() -> None:
    same_paths(Diloco(replicas=REPLICAS, outer_lr=1, outer_momentum=0, **PLAIN), LocalSgd(replicas=REPLICAS, **PLAIN))


def test_eamsgd_without_momentum_is_easgd() -> None:
    shared = PLAIN | {"replicas": REPLICAS, "momentum": 0.0}
    same_paths(Eamsgd(**shared), Easgd(**shared))


def test_rsgd_with_the_stiffness_given_is_elastic_sgd() -> None:
    shared = PLAIN | {"replicas": REPLICAS}
    same_paths(Rsgd(rho="auto(1,base=0.5)", **shared), ElasticSgd(rho=2.0, **shared))


@pytest.mark.parametrize("method", METHODS)
def test_replicas_with_one_start_and_the_same_data_stay_identical(method: str) -> None:
    single = METHODS[method].single_replica
    coupling = METHODS[method](lr=0.05) if single else METHODS[method](lr=0.05, replicas=REPLICAS)
    if method != "sgd":
        coupling = coupling.with_fields(period=PERIOD)
    if method == "heat":
        coupling = coupling.with_fields(beta=math.inf)
    if single:
        runs = [train(coupling, ONE_NOISE).points[0] for _ in range(REPLICAS)]
    else:
        runs = list(train(coupling, ONE_NOISE.expand(REPLICAS, -1, -1)).points)
    assert all(torch.equal(runs[0], other) for other in runs)
    assert not torch.equal(runs[0][0], runs[0][-1])


# Equalities with torch.optim.SGD.


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_one_worker_of_sgd_is_torch_sgd(momentum: float, nesterov: bool, weight_decay: float) -> None:
    numbers = {"lr": 0.05, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    run = train(Sgd(replicas=1, **numbers), ONE_NOISE, starts=ONE_START)
    close(run.points, torch_sgd(ONE_START, ONE_NOISE, **numbers))


@pytest.mark.parametrize(
    "coupling",
    [
        Parle(replicas=REPLICAS, gamma=math.inf, rho=math.inf, averaging=0, outer_lr=1, **PLAIN),
        ElasticSgd(replicas=REPLICAS, rho=math.inf, **PLAIN),
        Lsgd(replicas=REPLICAS, rho=math.inf, **PLAIN),
        Lsgd(replicas=REPLICAS, rho=math.inf, group_rho=math.inf, groups=2, **PLAIN),
    ],
    ids=["parle", "elastic_sgd", "lsgd", "lsgd in groups"],
)
def test_without_springs_the_replicas_are_independent_sgd(coupling: Coupling) -> None:
    run = train(coupling, NOISE, starts=STARTS)
    alone = torch_sgd(STARTS, NOISE, lr=0.05, momentum=0.9, nesterov=True)
    close(run.points, alone)
    if not coupling.ranked:
        close(run.centers[-1], alone[:, -1].mean(0))


def _regress(coupling: Coupling, batches: Tensor, targets: Tensor) -> list[Tensor]:
    """Train a linear model on (R, K, B, 5) inputs; return the final weights of the replicas."""
    models = [nn.Linear(5, 2, dtype=torch.float64) for _ in batches]
    for model in models:
        nn.init.constant_(model.weight, 0.1)
        nn.init.zeros_(model.bias)
    replicas = [Replica(model, coupling, index=a) for a, model in enumerate(models)]

    def loop(a: int) -> Steps[None]:
        yield from replicas[a].join()
        for inputs, wanted in zip(batches[a], targets[a], strict=True):
            replicas[a].flat.zero_grad()
            nn.functional.mse_loss(models[a](inputs), wanted).backward()
            yield from replicas[a].step()

    run_together([loop(a) for a in range(len(batches))], Rounds())
    return [model.weight.detach() for model in models]


def test_sgd_with_n_workers_is_one_worker_on_the_joined_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 10, 4, 5, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, 10, 4, 2, generator=generator, dtype=torch.float64)
    numbers = {"lr": 0.1, "weight_decay": 0.01}
    several = _regress(Sgd(replicas=3, **numbers), inputs, targets)
    joined = [table.transpose(0, 1).flatten(1, 2)[None] for table in (inputs, targets)]
    (one,) = _regress(Sgd(replicas=1, **numbers), *joined)
    for weight in several:
        close(weight, one)
        assert torch.equal(weight, several[0])


# Equalities with the equations, written out independently.


def same_as_recursion(
    coupling: Coupling, paths: recursions.Paths, starts: Tensor = STARTS, noise: Tensor = NOISE
) -> None:
    run = train(coupling, noise, starts=starts)
    points, centers = paths
    if len(points):
        close(run.points, points)
    close(run.centers, centers)


@pytest.mark.parametrize("consensus", ["slow", "averaged"])
@pytest.mark.parametrize(("averaging", "outer_momentum"), [(0.0, 0.0), (0.75, 0.0), (0.75, 0.9)])
def test_parle_follows_its_equations_with_scoped_springs(
    averaging: float, outer_momentum: float, consensus: str
) -> None:
    shared: dict[str, Any] = {
        "averaging": averaging,
        "outer_lr": 0.5,
        "outer_momentum": outer_momentum,
        "weight_decay": 0.02,
    }
    paths = recursions.parle(
        STARTS,
        NOISE,
        gamma=lambda k: 5.0 * (0.5 / 5.0) ** (k / STEPS),
        rho=lambda k: 10.0 + (1.0 - 10.0) * (k / STEPS),
        couple_averages=consensus == "averaged",
        **PLAIN,
        **shared,
    )
    coupling = Parle(replicas=REPLICAS, gamma="exp(5,0.5)", rho="lin(10,1)", consensus=consensus, **PLAIN, **shared)
    same_as_recursion(coupling, paths)


@pytest.mark.parametrize("center_every", [1, 2, 4])
@pytest.mark.parametrize(("averaging", "outer_momentum"), [(0.0, 0.0), (0.75, 0.9)])
def test_hierarchical_parle_follows_its_equations(averaging: float, outer_momentum: float, center_every: int) -> None:
    """Two deputies of two workers each; the deputies are written out, not the workers' copies of them."""
    shared: dict[str, Any] = {
        "center_every": center_every,
        "averaging": averaging,
        "outer_lr": 0.5,
        "outer_momentum": outer_momentum,
    }
    paths = recursions.deputies(
        FOUR_STARTS,
        FOUR_NOISE,
        groups=2,
        gamma=lambda k: 5.0 * (0.5 / 5.0) ** (k / STEPS),
        rho=lambda k: 10.0 + (1.0 - 10.0) * (k / STEPS),
        **PLAIN,
        **shared,
    )
    coupling = HierarchicalParle(replicas=4, groups=2, gamma="exp(5,0.5)", rho="lin(10,1)", **PLAIN, **shared)
    same_as_recursion(coupling, paths, FOUR_STARTS, FOUR_NOISE)


@pytest.mark.parametrize("groups", [1, 2])
def test_lsgd_follows_its_equations(groups: int) -> None:
    numbers: dict[str, Any] = {"rho": 2.0, "group_rho": 0.5, "groups": groups} | PLAIN
    chosen: list[int] = []
    paths = recursions.leaders(FOUR_STARTS, FOUR_NOISE, chosen=chosen, **numbers)
    same_as_recursion(Lsgd(replicas=4, **numbers), paths, FOUR_STARTS, FOUR_NOISE)
    assert len(set(chosen)) > 1, "the leader must change"


@pytest.mark.parametrize("period", [1, PERIOD])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_easgd_by_the_server_is_easgd_by_all_reduce(momentum: float, period: int) -> None:
    numbers: dict[str, Any] = {"period": period, "lr": 0.05, "momentum": momentum, "elasticity": 0.9}
    method = Eamsgd if momentum else Easgd
    same_as_recursion(method(replicas=REPLICAS, **numbers), recursions.easgd_by_all_reduce(STARTS, NOISE, **numbers))


@pytest.mark.parametrize("period", [1, PERIOD])
def test_elastic_sgd_follows_its_equations(period: int) -> None:
    numbers: dict[str, Any] = {"period": period, "lr": 0.05, "momentum": 0.9}
    paths = recursions.elastic_sgd(STARTS, NOISE, rho=lambda k: 2.0 * (0.2 / 2.0) ** (k / STEPS), **numbers)
    same_as_recursion(ElasticSgd(replicas=REPLICAS, rho="exp(2,0.2)", **numbers), paths)


@pytest.mark.parametrize("inner", ["sgd", "adamw"])
def test_local_sgd_averages_torch_optimizers(inner: str) -> None:
    def whole_step(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    make = adamw if inner == "adamw" else sgd
    coupling = LocalSgd(replicas=REPLICAS, **(PLAIN | (ADAMW if inner == "adamw" else {})))
    same_as_recursion(coupling, recursions.averaged_by(STARTS, NOISE, make, period=PERIOD, outer=whole_step))


def test_diloco_is_adamw_inside_and_torch_nesterov_outside() -> None:
    def outer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.7, momentum=0.9, nesterov=True)

    paths = recursions.averaged_by(STARTS, NOISE, adamw, period=PERIOD, outer=outer)
    same_as_recursion(Diloco(replicas=REPLICAS, outer_lr=0.7, outer_momentum=0.9, **(PLAIN | ADAMW)), paths)


@pytest.mark.parametrize("inner", ["sgd", "adamw"])
@pytest.mark.parametrize("slow_lr", [0.5, 1.0])
def test_lookahead_follows_its_algorithm(slow_lr: float, inner: str) -> None:
    make = adamw if inner == "adamw" else sgd
    paths = recursions.lookahead(ONE_START[0], ONE_NOISE[0], make, period=PERIOD, slow_lr=slow_lr)
    coupling = Lookahead(slow_lr=slow_lr, **(PLAIN | (ADAMW if inner == "adamw" else {})))
    same_as_recursion(coupling, paths, ONE_START, ONE_NOISE)


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_hj_fixed_point_follows_its_equations(damping: float) -> None:
    numbers: dict[str, Any] = {"gamma": 0.2, "damping": damping} | PLAIN
    paths = recursions.hj_fixed_point(ONE_START[0], ONE_NOISE[0], **numbers)
    same_as_recursion(Hj(variant="fixed_point", **numbers), paths, ONE_START, ONE_NOISE)


def test_hj_fixed_point_finds_the_gradient_of_the_hopf_lax_solution() -> None:
    """On a quadratic ∇u(x, γ) = H (1 + γH)⁻¹ (x - c)."""
    gamma, steps = 0.3, 200
    quiet = torch.zeros(1, steps, len(START), dtype=torch.float64)
    run = train(Hj(variant="fixed_point", gamma=gamma, damping=0.5, period=steps, lr=0.05), quiet)
    eye = torch.eye(len(START), dtype=torch.float64)
    close(kept(run.replicas[0], "direction"), HESSIAN @ torch.linalg.solve(eye + gamma * HESSIAN, START - MINIMUM))


def test_heat_without_noise_is_sgd_on_the_mean_of_its_gradients() -> None:
    run = train(Heat(beta=math.inf, **PLAIN), ONE_NOISE, starts=ONE_START)
    grouped = ONE_NOISE.reshape(1, -1, PERIOD, ONE_NOISE.shape[-1]).mean(2)
    close(run.centers, torch_sgd(ONE_START, grouped, lr=0.05, momentum=0.9, nesterov=True)[0])


def test_rsgd_balances_loss_against_spread_after_the_first_data_pass() -> None:
    """κ = (mean loss)/(mean squared distance to the mean); the first of two passes is free, then 1/ρ = κ G^u."""
    growth, lr, momentum = 1.5, 0.05, 0.9
    run = train(
        Rsgd(replicas=REPLICAS, rho=f"auto({growth})", period=1, lr=lr, momentum=momentum), NOISE, starts=STARTS
    )
    one_pass = STEPS // 2
    free, _ = recursions.elastic_sgd(
        STARTS, NOISE[:, :one_pass], period=1, lr=lr, momentum=momentum, rho=lambda _: math.inf
    )
    visited = torch.cat([STARTS[:, None], free[:, :-1]], 1)
    gaps = visited - MINIMUM
    losses = 0.5 * ((gaps @ HESSIAN) * gaps).sum(-1) + (NOISE[:, :one_pass] * visited).sum(-1)
    spread = ((free[:, -1] - free[:, -1].mean(0)) ** 2).sum(-1).mean()
    stiffness = float(losses.mean() / spread)

    def rho(k: int) -> float:
        return math.inf if k < one_pass else 1.0 / (stiffness * math.pow(growth, k / STEPS))

    close(run.points, recursions.elastic_sgd(STARTS, NOISE, period=1, lr=lr, momentum=momentum, rho=rho)[0])
    assert 0 < stiffness * growth < 0.5 * nesterov_limit(momentum) / lr, "the bound would hide the measured value"
