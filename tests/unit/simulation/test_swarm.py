"""The swarm is the library's replicas: the same numbers, with and without springs, momentum and schedules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deeprelax.coupling import Coupling, Diloco, Eamsgd, Easgd, ElasticSgd, LocalSgd, Parle, Sgd
from deeprelax.coupling.methods import make_coupling
from deeprelax.errors import ConfigError
from deeprelax.pde.potentials import F2
from deeprelax.simulation import Lag, Swarm
from deeprelax.simulation.losses import named_loss
from deeprelax.verify.couplings.bed import Group

N, D, STEPS = 3, 4, 24
LR = 0.02
COUPLINGS = [
    Parle(replicas=N, period=4, lr=LR, gamma="exp(10,1)", rho="exp(4,2)", outer_momentum=0.3),
    Parle(replicas=N, period="lin(2,6)", lr=LR, consensus="averaged", averaging=0.0, momentum_policy="reset"),
    ElasticSgd(replicas=N, period=1, lr=LR, rho=0.5),
    ElasticSgd(replicas=N, period=3, lr="cos(0.02,0.001)", rho=0.5, spring="decoupled"),
    Easgd(replicas=N, period=5, lr=LR),
    Eamsgd(replicas=N, period=4, lr=LR),
    LocalSgd(replicas=N, period=4, lr=LR, weight_decay=0.1),
    Diloco(replicas=N, period=6, lr=LR, optimizer="adamw"),
    Sgd(replicas=N, lr=LR),
]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("coupling", COUPLINGS, ids=[f"{c.method()}-{i}" for i, c in enumerate(COUPLINGS)])
def test_a_swarm_makes_the_steps_of_the_librarys_replicas(coupling: Coupling) -> None:
    starts, noise = drawn(N, D, seed=0), drawn(STEPS, N, D, seed=1)
    group = Group(coupling, F2, starts.unsqueeze(-1), total_steps=STEPS)
    group.train(STEPS, noise=lambda replica, step: noise[step, replica].unsqueeze(-1))
    swarm = Swarm(coupling, named_loss("f2", D).potential, starts, total_steps=STEPS)
    for step in range(STEPS):
        swarm.step(noise[step])
    torch.testing.assert_close(swarm.points, group.points().squeeze(-1), rtol=1e-12, atol=1e-12)
    position = group.replicas[0].position
    assert (swarm.position.step, swarm.position.exchanges) == (position.step, position.exchanges)
    assert group.rounds.center is not None
    if coupling.kind == "center":
        slots = group.replicas[0].flat.named(group.rounds.center.vectors)
        center = torch.cat([slots["first"], slots["second"]]).squeeze(-1)
        torch.testing.assert_close(swarm.center, center, rtol=1e-12, atol=1e-12)


def test_a_message_that_is_late_is_the_one_said_before() -> None:
    lag = 2
    coupling = LocalSgd(replicas=N, period=1, lr=LR, momentum=0.0)
    starts, noise = drawn(N, D, seed=2), drawn(STEPS, N, D, seed=3)
    potential = named_loss("quadratic", D).potential
    swarm = Swarm(coupling, potential, starts, lag=Lag(mean=lag))
    points, said = starts, []
    for step in range(8):
        swarm.step(noise[step])
        said.append(points - LR * (potential.gradient(points) + noise[step]))
        points = said[max(0, step - lag)].mean(0).expand(N, D)
    torch.testing.assert_close(swarm.points, points, rtol=1e-12, atol=1e-12)


def test_lags_differ_from_replica_to_replica() -> None:
    lags = Lag(shape="exp", mean=3.0).draw(100_000, torch.Generator().manual_seed(0)).double()
    q = float(torch.exp(torch.tensor(-1 / 3)))  # floor(T) is geometric: P(k) = (1 - q) q^k
    assert float(lags.mean()) == pytest.approx(q / (1 - q), rel=0.02)
    assert float((lags == 0).double().mean()) == pytest.approx(1 - q, rel=0.02)


def test_the_spread_is_that_of_what_travels() -> None:
    starts = drawn(N, D, seed=4)
    swarm = Swarm(LocalSgd(replicas=N, period=1, lr=1e-300), F2, starts)
    swarm.step()
    expected = (starts - starts.mean(0)).square().sum(-1).mean().sqrt()
    assert swarm.spread == pytest.approx(float(expected))
    assert torch.equal(swarm.points[0], swarm.points[1])


@pytest.mark.parametrize(
    ("coupling", "says"),
    [
        (Parle(replicas=N), "Missing field 'lr'"),
        (Parle(replicas=2, lr=LR), "Must be replicas=2"),
        (make_coupling("rsgd", {"replicas": N, "lr": LR}), "balances a spring"),
    ],
)
def test_what_cannot_be_simulated_is_refused(coupling: Coupling, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Swarm(coupling, F2, torch.zeros(N, D, dtype=torch.float64))
