"""Stability bounds: the formulas against the recursions they speak of, and what is refused with which message."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.unit.quadratics import HESSIAN, kept, noise_table, spread_starts, train

from deeprelax.coupling import Coupling, Eamsgd, Easgd, ElasticSgd, EntropySgd, Hj, Lookahead, Lsgd, Parle, Rsgd, Sgd
from deeprelax.coupling.stability import elastic_limit, fixed_point_limit, held_stiffness, nesterov_limit
from deeprelax.errors import ConfigError, UnstableError
from deeprelax.schedules import Position, Schedule, parse

RUN = [Position(step=step, steps_per_pass=10, total_steps=100) for step in range(101)]
MARGIN = 1e-6
SHARPEST = float(np.linalg.eigvalsh(HESSIAN.numpy()).max())


def radius(matrix: NDArray[np.float64]) -> float:
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def nesterov_matrix(pull: float, momentum: float) -> NDArray[np.float64]:
    """(x, v) → (x - (g + m v'), v') with v' = m v + g, g = pull · x: the step times the curvature, in torch's form."""
    velocity = np.array([pull, momentum])
    return np.array([np.array([1.0, 0.0]) - np.array([pull, 0.0]) - momentum * velocity, velocity])


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 0.75, 0.9, 0.99])
def test_nesterov_limit_is_where_the_spectral_radius_reaches_one(momentum: float) -> None:
    limit = nesterov_limit(momentum)
    assert radius(nesterov_matrix(limit, momentum)) == pytest.approx(1.0, abs=1e-9)
    mismatches = [
        pull
        for pull in np.linspace(0.005, 2.5, 500)
        if abs(pull - limit) > MARGIN and (radius(nesterov_matrix(pull, momentum)) < 1) != (pull < limit)
    ]
    assert mismatches == []


def easgd_matrices(pull: float, alpha: float, replicas: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what happens to (mean, center), and to a difference of two replicas."""
    mean = np.array([[1 - pull - alpha, alpha], [replicas * alpha, 1 - replicas * alpha]])
    return mean, np.array([[1 - pull - alpha]])


def test_easgd_is_stable_exactly_in_the_region_of_its_three_inequalities() -> None:
    mismatches = []
    for pull, spread, replicas in itertools.product(
        np.linspace(0.02, 2.2, 40), np.linspace(0.02, 2.2, 40), (1, 2, 3, 8)
    ):
        alpha = spread / replicas
        inside = pull < 2 and spread < 2 and alpha < (2 - pull) * (2 - spread) / 2
        found = max(map(radius, easgd_matrices(pull, alpha, replicas)))
        if abs(found - 1) > MARGIN and (found < 1) != inside:
            mismatches.append((pull, spread, replicas))
    assert mismatches == []


@pytest.mark.parametrize("replicas", [1, 2, 3, 8, 100])
def test_elastic_limit_is_where_easgd_on_a_flat_loss_starts_to_grow(replicas: int) -> None:
    for factor, stable in ((0.999, True), (1.001, False)):
        alpha = factor * elastic_limit(replicas) / replicas
        mean, _ = easgd_matrices(0.0, alpha, replicas)
        # A flat loss leaves one eigenvalue at 1: nothing pulls the common part.
        second = float(np.sort(np.abs(np.linalg.eigvals(mean)))[-1 if not stable else 0])
        assert (second < 1) == stable


@pytest.mark.parametrize("damping", [0.0, 0.3, 0.5, 0.9])
def test_fixed_point_contracts_exactly_below_its_limit(damping: float) -> None:
    """p ← d p + (1 - d)(h x - γh p) on a quadratic has the factor d - (1 - d) γh."""
    limit = fixed_point_limit(damping)
    for pull in np.linspace(0.01, 2 * limit, 400):
        assert (abs(damping - (1 - damping) * pull) < 1) == (pull < limit)


@pytest.mark.parametrize(("factor", "contracts"), [(0.97, True), (1.03, False)])
def test_hj_fixed_point_in_the_library_obeys_its_limit(factor: float, contracts: bool) -> None:
    gamma = factor * fixed_point_limit(0.5) / SHARPEST
    coupling = Hj(variant="fixed_point", gamma=gamma, damping=0.5, lr=0.01, period=1000)
    run = train(coupling, 0 * noise_table(1, 600))
    late = run.points[0, -2:]
    assert bool((late[1] - late[0]).abs().max() < 1e-6) == contracts


@pytest.mark.parametrize(("factor", "grows"), [(0.98, False), (1.02, True)])
def test_spring_and_curvature_together_obey_the_nesterov_limit_in_the_library(factor: float, grows: bool) -> None:
    """The replicas' differences see the curvature h + 1/ρ: lr (h + 1/ρ) < 2 (1 + m)/(1 + 2 m)."""
    momentum, lr = 0.9, 0.1
    stiffness = factor * nesterov_limit(momentum) / lr - SHARPEST
    coupling = ElasticSgd(replicas=3, rho=1 / stiffness, lr=lr, momentum=momentum, period=1)
    run = train(coupling, 0 * noise_table(3, 600), starts=spread_starts(3))
    spread = run.points[:, -1] - run.points[:, -1].mean(0)
    assert bool(spread.abs().max() > 1.0) == grows


# What is refused.


@pytest.mark.parametrize(
    ("coupling", "fragments"),
    [
        (
            Parle(lr=0.1, gamma=0.01),
            [
                "gamma=0.01",
                "lr=0.1",
                "at step 0",
                "lr/gamma = 10",
                "Must be < 1.357",
                "momentum 0.9",
                "gamma > 0.07368",
            ],
        ),
        (Parle(lr=0.1, gamma="exp(100,0.01)"), ["Unstable gamma=", "lr/gamma", "at step 79"]),
        (Parle(lr=0.1, gamma=1, rho=0.4), ["rho=0.4", "outer_lr·(1 + 1/rho) = 3.5", "Must be < 2", "rho > 1 there"]),
        (Parle(lr=0.1, gamma=1, rho=0.7, outer_momentum=0.9), ["rho=0.7", "Must be < 1.357"]),
        (ElasticSgd(lr=0.1, rho="exp(1,0.05)"), ["rho=", "lr/rho", "Must be < 1.357"]),
        (Lsgd(lr=0.1, rho=0.05), ["rho=0.05", "lr/rho = 2", "Must be < 1.357"]),
        (Lsgd(lr=0.1, rho=0.1, group_rho=0.2, groups=2), ["rho=0.1", "lr·(5 + 1/rho) = 1.5", "rho > 0.1167"]),
        (EntropySgd(lr=0.1, gamma=0.05, momentum=0), ["gamma=0.05", "lr/gamma = 2", "Must be < 2"]),
        (EntropySgd(lr=0.1, gamma=0.05, spring="decoupled"), ["gamma=0.05", "Must be < 2"]),
        (Hj(lr=0.1, gamma=0.05), ["gamma=0.05", "lr/gamma = 2", "Must be < 1.357"]),
        (
            Easgd(lr=0.1, replicas=3, elasticity=1.5),
            ["elasticity=1.5", "3 replicas", "Must be < 1.5", "2n/(n + 1)", "0.9"],
        ),
        (Eamsgd(lr=0.1, replicas=1, elasticity=1.0), ["elasticity=1", "1 replicas", "Must be < 1 "]),
    ],
    ids=lambda value: value.method() if isinstance(value, Coupling) else "",
)
def test_unstable_config_is_refused_with_value_bound_and_fix(coupling: Coupling, fragments: list[str]) -> None:
    with pytest.raises(UnstableError) as caught:
        coupling.check_stable(RUN)
    assert isinstance(caught.value, ConfigError)
    for fragment in [*fragments, "--force"]:
        assert fragment in str(caught.value)


LIMIT = nesterov_limit(0.9)


@pytest.mark.parametrize(
    ("coupling", "crosses"),
    [
        (Parle(lr=0.1, gamma=0.1 / LIMIT * (1 + 1e-9)), False),
        (Parle(lr=0.1, gamma=0.1 / LIMIT * (1 - 1e-9)), True),
        (Parle(lr=0.1, gamma=1, rho=1.0), True),
        (Parle(lr=0.1, gamma=1, rho=1 + 1e-9), False),
        (ElasticSgd(lr=0.1, rho=0.1 / LIMIT * (1 + 1e-9)), False),
        (ElasticSgd(lr=0.1, rho=0.1 / LIMIT * (1 - 1e-9)), True),
        (Lsgd(lr=0.1, groups=2, rho=0.2 / LIMIT, group_rho=0.2 / LIMIT * (1 + 1e-9)), False),
        (Lsgd(lr=0.1, groups=2, rho=0.2 / LIMIT, group_rho=0.2 / LIMIT * (1 - 1e-9)), True),
        (EntropySgd(lr=0.1, gamma=0.05, spring="decoupled"), True),
        (EntropySgd(lr=0.1, gamma=0.05 + 1e-9, spring="decoupled"), False),
        (Easgd(lr=0.1, replicas=3, elasticity=1.5), True),
        (Easgd(lr=0.1, replicas=3, elasticity=1.5 - 1e-9), False),
    ],
)
def test_bound_itself_is_outside_and_just_below_is_inside(coupling: Coupling, crosses: bool) -> None:
    if crosses:
        with pytest.raises(UnstableError):
            coupling.check_stable(RUN)
    else:
        coupling.check_stable(RUN)


@pytest.mark.parametrize(
    "coupling",
    [
        Sgd(lr=10),
        Lookahead(lr=10),
        Parle(lr="cos(0.1,0)"),
        Parle(lr=0.1, gamma=math.inf, rho=math.inf),
        Rsgd(lr=0.1),
        Hj(lr=0.1, variant="fixed_point", gamma=0.01),
        EntropySgd(lr=0.1, gamma=0.01, optimizer="adamw"),
        Parle(gamma=1e-6),
    ],
    ids=["no spring", "no spring", "default", "springs off", "auto", "h unknown", "adaptive step", "user's own lr"],
)
def test_what_cannot_be_judged_or_has_no_spring_is_not_refused(coupling: Coupling) -> None:
    coupling.check_stable(RUN)


def test_balanced_spring_is_held_at_half_its_bound_and_a_given_one_is_not() -> None:
    balanced, given = parse("auto(1e4,base=1)"), Schedule(start=1e-6)
    assert held_stiffness(balanced, 1e-6, 0.1, 0.9) == pytest.approx(LIMIT / 0.2)
    assert held_stiffness(balanced, 1e-6, 0.0, 0.9) == pytest.approx(1e6)
    assert held_stiffness(balanced, 2.0, 0.1, 0.9) == 0.5
    assert held_stiffness(balanced, math.inf, 0.1, 0.9) == 0.0
    assert held_stiffness(given, 1e-6, 0.1, 0.9) == pytest.approx(1e6)


@pytest.mark.parametrize(("rho", "shrinks"), [(0.9, False), (1.1, True)])
def test_parle_bound_is_where_the_differences_of_replicas_start_to_grow(rho: float, shrinks: bool) -> None:
    # Periods long enough for the fast weights to reach the minimum: z is the same for all, the worst case of the bound.
    coupling = Parle(replicas=2, lr=0.2, momentum=0.0, period=200, gamma=math.inf, rho=rho, averaging=0.0)
    starts = spread_starts(2)

    first, second = train(coupling, noise_table(2, 12 * 200, scale=0.0), starts=starts).replicas

    gap = torch.dist(kept(first, "anchor"), kept(second, "anchor"))
    assert bool(gap < torch.dist(starts[0], starts[1])) == shrinks
