"""The inner optimizer: springs inside and outside of it, noise of the right size, momentum at an exchange."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tests.unit.quadratics import START, Quadratic, close, kept, noise_table, point_of, train
from torch import Tensor, nn
from torch.optim import Optimizer

from deeprelax.coupling import Coupling, Eamsgd, EntropySgd, Heat, LocalSgd, Parle
from deeprelax.coupling.inner import OPTIMIZERS, FlatSgd, Force, Inner, TorchInner, flat_optimizer
from deeprelax.coupling.message import Reply
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError
from deeprelax.replica.replica import Replica

LR, STIFFNESS, AVERAGING = 0.02, 3.0, 0.75
ANCHOR = START + 0.5
GRADIENTS = noise_table(1, 6)[0]
FORCE = Force(anchor="anchor", stiffness=STIFFNESS, average="average", averaging=AVERAGING)


def weights() -> Weights:
    w = Weights(START.clone(), torch.zeros_like(START))
    w.keep("anchor").copy_(ANCHOR)
    w.keep("average").copy_(START)
    return w


def follow(inner: Inner, w: Weights, force: Force = FORCE) -> Weights:
    for table in GRADIENTS:
        w.grad.copy_(table)
        inner.step([w], force, LR, torch.Generator().manual_seed(0))
    return w


def by_parameters(make: Callable[[list[nn.Parameter]], Optimizer], *, coupled: bool) -> tuple[Tensor, Tensor]:
    """Return weights and average of the same steps with one torch optimizer over two separate parameters."""
    parameters = [nn.Parameter(START[:5].clone()), nn.Parameter(START[5:].clone())]
    optimizer, average = make(parameters), START.clone()
    for table in GRADIENTS:
        for parameter, gradient, anchor in zip(parameters, table.split([5, 3]), ANCHOR.split([5, 3]), strict=True):
            gap = parameter.detach() - anchor
            parameter.grad = gradient + STIFFNESS * gap if coupled else gradient.clone()
            if not coupled:
                parameter.data = parameter.detach() - LR * STIFFNESS * gap
        optimizer.step()
        average = AVERAGING * average + (1 - AVERAGING) * torch.cat([p.detach() for p in parameters])
    return torch.cat([p.detach() for p in parameters]), average


@pytest.mark.parametrize("spring", ["coupled", "decoupled"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_flat_optimizer_with_spring_is_torch_over_the_parameters(name: str, spring: str) -> None:
    w = weights()
    inner = TorchInner(flat_optimizer(name, [w], {}), spring)  # type: ignore[arg-type]
    follow(inner, w)
    fast, average = by_parameters(lambda p: OPTIMIZERS[name](p, lr=LR), coupled=spring == "coupled")  # type: ignore[call-arg]
    close(w.fast, fast)
    close(w["average"], average)


@pytest.mark.parametrize("spring", ["coupled", "decoupled"])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_flat_sgd_with_spring_is_torch_sgd_over_the_parameters(momentum: float, nesterov: bool, spring: str) -> None:
    w = follow(FlatSgd(momentum, nesterov, 0.1, spring), weights())  # type: ignore[arg-type]
    fast, average = by_parameters(
        lambda p: torch.optim.SGD(p, lr=LR, momentum=momentum, nesterov=nesterov, weight_decay=0.1),
        coupled=spring == "coupled",
    )
    close(w.fast, fast)
    close(w["average"], average)


def test_coupled_and_decoupled_springs_differ_with_momentum() -> None:
    coupled = follow(FlatSgd(0.9, True, 0.0, "coupled"), weights())
    decoupled = follow(FlatSgd(0.9, True, 0.0, "decoupled"), weights())
    assert (coupled.fast - decoupled.fast).abs().max() > 1e-2


def test_optimizer_options_reach_torch() -> None:
    inner = TorchInner(flat_optimizer("adamw", [w := weights()], {"betas": [0.5, 0.6], "weight_decay": 0.3}), "coupled")
    follow(inner, w)
    fast, _ = by_parameters(
        lambda p: torch.optim.AdamW(p, lr=LR, betas=(0.5, 0.6), weight_decay=0.3),
        coupled=True,
    )
    close(w.fast, fast)


@pytest.mark.parametrize(
    ("options", "fragment"), [({"beta": [0.9, 0.9]}, "beta"), ({"betas": [2.0, 0.9]}, "2.0"), ({"eps": -1.0}, "-1.0")]
)
def test_wrong_optimizer_option_is_refused(options: dict[str, float | list[float]], fragment: str) -> None:
    with pytest.raises(ConfigError, match="optimizer_options") as caught:
        flat_optimizer("adamw", [weights()], options)
    assert fragment in str(caught.value)


class Bowl(nn.Module):
    """f(y) = h |y|²/2 with many independent coordinates, each a sample of the chain."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(size, dtype=torch.float64))


@pytest.mark.parametrize(("beta", "curvature", "gamma"), [(10.0, 1.0, 0.5), (0.1, 4.0, math.inf)])
def test_langevin_chain_samples_the_gibbs_measure(beta: float, curvature: float, gamma: float) -> None:
    """exp(-β (h y²/2 + y²/(2γ))) has variance 1/(β (h + 1/γ)); noise of variance η/β instead of 2η/β would halve it."""
    size, lr, stiffness = 20_000, 0.02, curvature + 1 / gamma
    model = Bowl(size)
    coupling = EntropySgd(gamma=gamma, beta=beta, lr=lr, momentum=0, period=10_000)
    replica = Replica(model, coupling)
    knobs = {"lr": lr, "beta": beta, "gamma": gamma}
    w = replica.weights[0]
    for _ in range(int(8 / (lr * stiffness))):
        w.grad.copy_(curvature * w.fast)
        replica.inner.step([w], coupling.force(knobs), lr, replica._noise)
    wanted = 1 / (beta * stiffness)
    # The sample variance scatters by sqrt(2/20000) = 1 %, the discrete chain is wider by η λ/2 <= 4 %.
    assert float(model.point.detach().var()) == pytest.approx(wanted, rel=0.09)
    assert float(model.point.detach().mean()) == pytest.approx(0.0, abs=5 * math.sqrt(wanted / size))


def test_running_average_sees_the_noisy_weights() -> None:
    coupling = EntropySgd(lr=0.05, beta=10.0, gamma=1.0, averaging=0.6, period=100, momentum=0.9)
    averages, points = [START], []

    def look(replica: Replica) -> None:
        points.append(point_of(replica))
        averages.append(kept(replica, "average"))

    train(coupling, noise_table(1, 5), between=look)
    for before, point, after in zip(averages, points, averages[1:], strict=False):
        close(after, 0.6 * before + 0.4 * point)


def test_replicas_and_seeds_draw_different_noise_and_equal_ones_the_same() -> None:
    def end(index: int, seed: int) -> Tensor:
        replica = Replica(Quadratic(), EntropySgd(lr=0.05, gamma=1.0, beta=1.0), index=index, seed=seed)
        replica.inner.step(replica.weights, Force(noise=1.0), 0.05, replica._noise)
        return point_of(replica)

    assert torch.equal(end(0, 0), end(0, 0))
    for other in (end(1, 0), end(0, 1)):
        assert not torch.equal(end(0, 0), other)


# Momentum at an exchange.


@pytest.mark.parametrize("coupling", [Parle(replicas=1, lr=0.05), LocalSgd(replicas=1, lr=0.05), EntropySgd(lr=0.05)])
@pytest.mark.parametrize("policy", ["keep", "reset"])
def test_momentum_policy_keeps_or_zeroes_the_velocity_at_an_exchange(coupling: Coupling, policy: str) -> None:
    run = train(coupling.with_fields(period=4, momentum_policy=policy), noise_table(1, 4))
    velocity = kept(run.replicas[0], "velocity")
    assert bool((velocity == 0).all()) == (policy == "reset")
    assert bool((velocity != 0).all()) == (policy == "keep")


@pytest.mark.parametrize("policy", ["keep", "reset"])
def test_momentum_reset_at_an_elastic_exchange_stands_before_the_step(policy: str) -> None:
    """EASGD exchanges with the gradient at hand: after a reset the velocity is that one gradient."""
    run = train(Eamsgd(replicas=1, lr=0.05, period=4, momentum_policy=policy), noise_table(1, 4))
    replica = run.replicas[0]
    same = torch.equal(kept(replica, "velocity"), point_of(replica, replica.weights[0].grad))
    assert same == (policy == "reset")


@pytest.mark.parametrize("policy", ["keep", "reset"])
def test_momentum_policy_governs_the_state_of_adam(policy: str) -> None:
    coupling = LocalSgd(replicas=1, lr=0.05, period=4, optimizer="adamw", momentum_policy=policy)
    state = train(coupling, noise_table(1, 4)).replicas[0].inner.state()
    assert bool(state) == (policy == "keep")


@pytest.mark.parametrize("policy", ["keep", "reset"])
def test_partial_last_period_follows_the_momentum_policy_too(policy: str) -> None:
    coupling = Parle(replicas=1, lr=0.05, period=4, momentum_policy=policy)
    run = train(coupling, noise_table(1, 6), finish=True)
    assert run.replicas[0].position.exchanges == 2
    assert bool((kept(run.replicas[0], "velocity") == 0).all()) == (policy == "reset")


def test_entropy_sgd_forgets_its_momentum_by_default_and_parle_keeps_it() -> None:
    assert EntropySgd().momentum_policy == "reset"
    assert Parle().momentum_policy == "keep"


# The user's own optimizer.


@pytest.mark.parametrize("lr", [None, 0.01])
def test_own_optimizer_keeps_its_learning_rate_unless_the_coupling_has_one(lr: float | None) -> None:
    def own(model: nn.Module) -> Optimizer:
        parameters = list(model.parameters())
        return torch.optim.SGD([{"params": parameters[:1], "lr": 0.3}, {"params": parameters[1:], "lr": 0.2}])

    run = train(LocalSgd(replicas=1, lr=lr, period=2), noise_table(1, 3), optimizer=own)
    inner = run.replicas[0].inner
    assert isinstance(inner, TorchInner)
    assert [group["lr"] for group in inner.optimizer.param_groups] == ([0.3, 0.2] if lr is None else [0.01, 0.01])


def test_own_schedule_of_the_learning_rate_is_what_the_springs_see() -> None:
    noise = noise_table(1, 3)
    rates = [0.1, 0.05, 0.025]
    seen: list[float] = []

    def halve(replica: Replica) -> None:
        inner = replica.inner
        assert isinstance(inner, TorchInner)
        seen.append(float(replica.inner.own_lr or 0))
        inner.optimizer.param_groups[0]["lr"] /= 2

    coupling = Parle(replicas=1, gamma=2.0, spring="decoupled", period=100)
    run = train(coupling, noise, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), between=halve)
    assert seen == rates
    model, start = Quadratic(), START.clone()
    point = start.clone()
    for rate, one in zip(rates, noise[0], strict=True):
        for parameter, value in zip(model.parameters(), (point[:6].view(2, 3), point[6:]), strict=True):
            parameter.data = value.clone()
            parameter.grad = None
        model(one).backward()
        slope = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        point = point - rate * (point - start) / 2.0 - rate * slope
    close(run.points[0, -1], point)


def test_missing_learning_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="Missing field 'lr' of parle"):
        Replica(Quadratic(), Parle())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_every_optimizer_survives_a_checkpoint_bit_for_bit(name: str) -> None:
    w, again = weights(), weights()
    inner, other = (TorchInner(flat_optimizer(name, [each], {}), "coupled") for each in (w, again))
    follow(inner, w)
    for vector, copy in ((again.fast, w.fast), (again["average"], w["average"])):
        vector.copy_(copy)
    other.restore({key: value.clone() for key, value in inner.state().items()})
    follow(inner, w)
    follow(other, again)
    assert torch.equal(w.fast, again.fast)
    assert torch.equal(w["average"], again["average"])


@pytest.mark.parametrize(("gamma", "beta", "variance"), [(2.0, 8.0, 0.25), (1.0, math.inf, 0.0)])
def test_heat_scatters_with_variance_gamma_over_beta(gamma: float, beta: float, variance: float) -> None:
    size = 20_000
    replica = Replica(Bowl(size), Heat(lr=0.1, gamma=gamma, beta=beta))
    joining = replica.join()
    message = next(joining)
    with pytest.raises(StopIteration):
        joining.send(Reply(vectors=tuple(v.clone() for v in message.vectors), step=0, exchanges=0))
    assert float(replica.weights[0].fast[:size].var()) == pytest.approx(variance, rel=0.05)
