"""A replica between messages: partial periods, lost rounds, foreign checkpoints, balancing, rounding, telemetry."""

from __future__ import annotations

import math
from collections.abc import Generator

import pytest
import torch
from tests.unit.quadratics import START, Quadratic, close, kept, noise_table, point_of, spread_starts, train
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
    Hj,
    LocalSgd,
    Lookahead,
    Parle,
    Rsgd,
    Sgd,
)
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import CheckpointError, ConfigError
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica

REPLICAS, STEPS = 3, 10
NOISE = noise_table(REPLICAS, STEPS)
STARTS = spread_starts(REPLICAS)

PERIODIC = [
    LocalSgd(lr=0.05),
    ElasticSgd(lr=0.05, rho=1.0),
    EntropySgd(lr=0.05, gamma=1.0),
    Hj(lr=0.05, gamma=1.0),
    Hj(lr=0.05, gamma=0.1, variant="fixed_point"),
    Heat(lr=0.05, gamma=1.0, beta=math.inf),
    Parle(lr=0.05, gamma=1.0, rho=2.0),
    Parle(lr=0.05, gamma=1.0, rho=2.0, consensus="averaged"),
    Lookahead(lr=0.05),
    Diloco(lr=0.05),
]


@pytest.mark.parametrize("coupling", PERIODIC, ids=lambda coupling: coupling.method())
def test_finish_ends_a_partial_period_like_a_period_of_that_length(coupling: Coupling) -> None:
    """Ten steps of period 4 and finish() are ten steps with exchanges after 4, 8 and 10."""
    noise = NOISE[: coupling.replicas]
    cut = train(coupling.with_fields(period=4), noise, finish=True)
    planned = train(coupling.with_fields(period="piecewise(0:4,8:2,steps)"), noise)
    close(cut.centers, planned.centers)
    assert len(cut.centers) == 3
    assert cut.replicas[0].position == planned.replicas[0].position


@pytest.mark.parametrize("name", METHODS)
def test_finish_after_a_whole_period_says_nothing(name: str) -> None:
    coupling = METHODS[name](lr=0.05, period=1)
    run = train(coupling, NOISE[: coupling.replicas], finish=True)
    assert run.replicas[0].position.exchanges == STEPS
    assert run.rounds.exchanges == STEPS


@pytest.mark.parametrize("method", [Easgd, Eamsgd])
def test_finish_of_an_elastic_method_is_one_more_elastic_exchange(method: type[Easgd]) -> None:
    coupling = method(lr=0.05, period=4)
    before, after = (train(coupling, NOISE, starts=STARTS, finish=finish) for finish in (False, True))
    ends = before.points[:, -1]
    center = before.centers[-1]
    close(after.centers[-1], center - 0.9 * (center - ends.mean(0)))
    for replica, end in zip(after.replicas, ends, strict=True):
        close(point_of(replica), end - 0.3 * (end - center))


# A replica whose round went on without it.


def _carry(steps: Generator[Message, Reply, object], reply: Reply) -> None:
    next(steps)
    with pytest.raises(StopIteration):
        steps.send(reply)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method().survives_loss])
def test_replica_that_missed_rounds_takes_the_center_and_the_position_of_the_run(name: str) -> None:
    coupling = METHODS[name](lr=0.05, period=1)
    if name == "heat":
        coupling = coupling.with_fields(beta=math.inf)
    replica = Replica(Quadratic(), coupling, total_steps=100, steps_per_pass=10)
    replica.adopt(Reply(vectors=(replica.weights[0].fast.clone(),), step=0, exchanges=0))
    replica.weights[0].grad.fill_(1.0)
    center = torch.full_like(replica.weights[0].fast, 3.0)
    _carry(replica.step(torch.tensor(1.0)), Reply(vectors=(center,), step=7, exchanges=7))
    assert (replica.position.step, replica.position.exchanges) == (7, 7)
    assert torch.equal(point_of(replica), torch.full((8,), 3.0, dtype=torch.float64))
    assert torch.equal(point_of(replica, replica.center()[0]), point_of(replica))
    if "velocity" in replica.weights[0]:
        assert bool((kept(replica, "velocity") == 0).all())


def test_replica_that_missed_rounds_forgets_its_outer_momentum() -> None:
    coupling = Parle(replicas=1, lr=0.05, period=2, gamma=1.0, rho=1.0, outer_momentum=0.9)
    replica = train(coupling, NOISE[:1]).replicas[0]
    assert bool((kept(replica, "outer_velocity") != 0).any())
    replica.adopt(Reply(vectors=(torch.zeros_like(replica.weights[0].fast),), step=40, exchanges=20))
    assert bool((kept(replica, "outer_velocity") == 0).all())


def test_newcomer_takes_the_averaged_buffers_along_with_the_center() -> None:
    replica = Replica(Quadratic(), LocalSgd(lr=0.1))
    running = torch.ones(4)
    replica.extras = (running,)
    vectors = (replica.weights[0].fast.clone(), torch.full((4,), 5.0))
    _carry(replica.join(), Reply(vectors=vectors, step=10, exchanges=1))
    assert torch.equal(running, torch.full((4,), 5.0))


# Checkpoints.


def _copy(replica: Replica) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in replica.state().items()}


@pytest.mark.parametrize(
    ("saved", "model", "coupling", "fragments"),
    [
        (Sgd(lr=0.1), Quadratic(), Parle(lr=0.1, gamma=1.0, rho=1.0), ["shape None", "parle"]),
        (Parle(lr=0.1, gamma=1.0, rho=1.0), Quadratic(), Sgd(lr=0.1), ["Must be None", "sgd"]),
        (Lookahead(lr=0.1), nn.Linear(40, 1).double(), Lookahead(lr=0.1), ["shape (16,)", "Must be (48,)"]),
        (
            Lookahead(lr=0.1),
            nn.Sequential(Quadratic(), nn.Linear(1, 1)),
            Lookahead(lr=0.1),
            ["lookahead on this model"],
        ),
    ],
    ids=["other method lacks", "other method has more", "other size", "other dtypes"],
)
def test_checkpoint_of_another_run_is_refused_and_changes_nothing(
    saved: Coupling, model: nn.Module, coupling: Coupling, fragments: list[str]
) -> None:
    tensors = _copy(train(saved, NOISE[: saved.replicas]).replicas[0])
    replica = Replica(model, coupling)
    before = [w.fast.clone() for w in replica.weights]
    with pytest.raises(CheckpointError) as caught:
        replica.restore(tensors, step=5, exchanges=1, coupling=coupling)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert replica.position.step == 0
    assert all(torch.equal(w.fast, start) for w, start in zip(replica.weights, before, strict=True))


# Balancing.


def test_balance_measured_after_a_resume_equals_the_one_of_the_whole_run() -> None:
    coupling = Rsgd(replicas=REPLICAS, lr=0.05, rho="auto(2)", period=1)
    whole = train(coupling, NOISE, starts=STARTS)
    # Stop after 3 of the 5 steps of the first pass: the losses so far must be in the checkpoint.
    stopped = train(coupling, NOISE[:, :3], starts=STARTS, planned_steps=STEPS)
    replicas = [
        Replica(Quadratic(), coupling, index=a, steps_per_pass=STEPS // 2, total_steps=STEPS) for a in range(REPLICAS)
    ]
    for replica, old in zip(replicas, stopped.replicas, strict=True):
        replica.restore(_copy(old), step=3, exchanges=3, coupling=old.coupling)

    def loop(a: int) -> Generator[Message, Reply, None]:
        for k in range(3, STEPS):
            replicas[a].flat.zero_grad()
            loss = replicas[a].flat.model(NOISE[a, k])
            loss.backward()
            yield from replicas[a].step(loss)

    run_together([loop(a) for a in range(REPLICAS)], Rounds(stopped.rounds.center, 3, 3))
    for a, replica in enumerate(replicas):
        assert replica.coupling == whole.replicas[a].coupling
        assert torch.equal(point_of(replica), whole.points[a, -1])


def test_looking_at_telemetry_or_state_does_not_change_the_balance() -> None:
    coupling = Rsgd(replicas=REPLICAS, lr=0.05, rho="auto(2)", period=1)

    def look(replica: Replica) -> None:
        replica.telemetry()
        replica.state()

    watched, alone = (train(coupling, NOISE, starts=STARTS, between=between) for between in (look, None))
    assert watched.replicas[0].coupling == alone.replicas[0].coupling
    assert torch.equal(watched.points, alone.points)


def test_replicas_that_never_parted_need_no_spring() -> None:
    run = train(Rsgd(replicas=REPLICAS, lr=0.05, rho="auto(2)"), NOISE[:1].expand(REPLICAS, -1, -1))
    assert "base=0" in str(run.replicas[0].coupling.model_dump()["rho"])
    assert bool(run.points.isfinite().all())


def test_balanced_spring_without_losses_is_refused() -> None:
    replica = Replica(Quadratic(), Rsgd(replicas=1, lr=0.05), steps_per_pass=1, total_steps=4)
    rounds = Rounds()
    joining = replica.join()
    with pytest.raises(StopIteration):
        joining.send(rounds.complete([next(joining)]))
    with pytest.raises(ConfigError, match=r"step\(loss\)"):
        next(replica.step())


# Rounding.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("coupling", [*PERIODIC, Easgd(lr=0.05), Parle(lr=0.05, rho=0.7, gamma=0.3, outer_lr=0.3)])
def test_replicas_at_rest_do_not_drift(coupling: Coupling, dtype: torch.dtype) -> None:
    """Where all agree and the gradient is zero every rule is the identity; a rounding bias would add up over a run."""
    coupling = coupling.with_fields(period=1, replicas=1)
    torch.manual_seed(0)
    replica = Replica(nn.Linear(50, 10, dtype=dtype), coupling, total_steps=1000)
    start, rounds = replica.weights[0].fast.clone(), Rounds()

    def loop() -> Generator[Message, Reply, None]:
        yield from replica.join()
        for _ in range(50):
            replica.flat.zero_grad()
            yield from replica.step(torch.tensor(0.0))

    run_together([loop()], rounds)
    assert torch.equal(replica.weights[0].fast, start)


# Telemetry.


def test_telemetry_reports_forces_gaps_and_ratios_of_the_last_exchange() -> None:
    coupling = Parle(replicas=REPLICAS, lr=0.05, gamma=2.0, rho=4.0, outer_lr=0.5, period=STEPS)
    run = train(coupling, NOISE, starts=STARTS)
    row = run.replicas[1].telemetry()
    assert row["coupling/kappa_in"] == pytest.approx(0.05 * STEPS / 2.0)
    assert row["coupling/kappa_out"] == pytest.approx(0.5 / 4.0)
    assert row["replica/center_norm"] == pytest.approx(float(run.centers[-1].norm()))
    gap = run.points[1, -1] - run.centers[-1]
    assert row["replica/distance"] == pytest.approx(float(gap.norm()))
    assert {"replica/grad_norm", "replica/spring_ratio", "replica/loss", "coupling/gamma"} <= row.keys()
    assert run.replicas[1].telemetry() == {}, "a row is told once"


def test_noise_ratio_compares_the_noise_with_the_gradient_step() -> None:
    model = nn.Linear(1, 64, bias=False)
    coupling = EntropySgd(lr=0.01, gamma=math.inf, beta=50.0, period=1)
    replica = Replica(model, coupling)
    replica.weights[0].grad.fill_(3.0)

    def loop() -> Generator[Message, Reply, None]:
        yield from replica.join()
        yield from replica.step(torch.tensor(0.0))

    run_together([loop()], Rounds())
    # |noise| = sqrt(2 lr P/β), |step| = lr · 3 sqrt(P)
    assert replica.telemetry()["replica/noise_ratio"] == pytest.approx(math.sqrt(2 * 0.01 / 50) / (0.01 * 3))


def test_workers_of_sgd_are_at_no_distance_whatever_their_gradients() -> None:
    run = train(Sgd(replicas=REPLICAS, lr=0.05), NOISE[:, :1])
    row = run.replicas[0].telemetry()
    assert row["replica/distance"] == 0.0
    assert row["replica/center_norm"] == pytest.approx(float(START.norm()), rel=1e-6)


def test_norms_do_not_count_the_averaged_buffers() -> None:
    replica = Replica(Quadratic(), LocalSgd(replicas=1, lr=0.05, period=1))
    replica.extras = (torch.full((4,), 1000.0),)

    def loop() -> Generator[Message, Reply, None]:
        yield from replica.join()
        replica.flat.zero_grad()
        yield from replica.step(torch.tensor(0.0))

    run_together([loop()], Rounds())
    assert replica.telemetry()["replica/center_norm"] == pytest.approx(float(START.norm()))
