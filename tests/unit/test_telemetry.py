"""What the rows of telemetry say, against formulas on the quadratic test bed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.unit.quadratics import close, gradient, kept, noise_table, point_of, spread_starts
from tests.unit.quadratics import train as train_quadratic
from tests.unit.toyruns import train, training
from torch import Tensor

from deeprelax.coupling import Coupling, Easgd, ElasticSgd, EntropySgd, LocalSgd, Parle, Sgd
from deeprelax.errors import ConfigError
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.loop import Event, Training
from deeprelax.replica.replica import Replica
from deeprelax.replica.telemetry import Probe

PERIOD, RATE = 4, 0.05
NOISE, STARTS = noise_table(3, PERIOD), spread_starts(3)


def rows_of(coupling: Coupling) -> tuple[list[dict[str, float]], Tensor, Tensor]:
    """Train one period; return the row of each replica, the weights before the last step and the center after it."""
    rows: dict[int, dict[str, float]] = {}
    count = coupling.replicas

    def read(replica: Replica) -> None:
        row = replica.telemetry()
        if row:
            assert replica.index not in rows, "one row a period"
            rows[replica.index] = row

    run = train_quadratic(coupling, NOISE[:count], starts=STARTS[:count], between=read)
    return [rows[a] for a in range(count)], run.points[:, -2], run.centers[-1]


def norms(vectors: Tensor) -> list[float]:
    return list(torch.linalg.vector_norm(vectors, dim=-1).reshape(-1).tolist())


def test_telemetry_of_parle_is_that_of_the_formulas() -> None:
    gamma, rho, eta = 0.5, 4.0, 0.7
    coupling = Parle(
        replicas=3, period=PERIOD, lr=RATE, momentum=0.9, gamma=gamma, rho=rho, outer_lr=eta, averaging=0.75
    )
    rows, before, center = rows_of(coupling)
    slopes = torch.stack([gradient(before[a], NOISE[a, -1]) for a in range(3)])
    points = train_quadratic(coupling, NOISE, starts=STARTS).points[:, -1]  # after an exchange y = x
    for a, row in enumerate(rows):
        assert row["replica/grad_norm"] == pytest.approx(norms(slopes)[a], rel=1e-9)
        stretch = norms(before - STARTS)[a]
        assert row["replica/spring_ratio"] == pytest.approx(stretch / gamma / norms(slopes)[a], rel=1e-9)
        assert row["replica/distance"] == pytest.approx(norms(points - center)[a], rel=1e-9)
        assert row["replica/center_norm"] == pytest.approx(norms(center)[0], rel=1e-9)
        assert row["coupling/kappa_in"] == pytest.approx(RATE * PERIOD / gamma)
        assert row["coupling/kappa_out"] == pytest.approx(eta / rho)
        assert "replica/noise_ratio" not in row


def test_telemetry_of_elastic_sgd_has_the_outer_spring_in_every_step() -> None:
    rho = 2.0
    coupling = ElasticSgd(replicas=3, period=PERIOD, lr=RATE, momentum=0, rho=rho)
    rows, before, center = rows_of(coupling)
    points = train_quadratic(coupling, NOISE, starts=STARTS).points[:, -1]
    for a, row in enumerate(rows):
        slope = float(torch.linalg.vector_norm(gradient(before[a], NOISE[a, -1])))
        stretch = float(torch.linalg.vector_norm(before[a] - STARTS.mean(0)))
        assert row["replica/spring_ratio"] == pytest.approx(stretch / rho / slope, rel=1e-9)
        assert row["replica/distance"] == pytest.approx(norms(points - center)[a], rel=1e-9)
        assert row["coupling/kappa_out"] == pytest.approx(RATE / rho)
        assert "coupling/kappa_in" not in row


def test_telemetry_of_entropy_sgd_has_the_noise_relative_to_the_gradient() -> None:
    gamma, beta = 0.5, 200.0
    coupling = EntropySgd(period=PERIOD, lr=RATE, momentum=0, gamma=gamma, beta=beta)
    rows, before, _ = rows_of(coupling)
    slope = float(torch.linalg.vector_norm(gradient(before[0], NOISE[0, -1])))
    noise = math.sqrt(2 * RATE / beta) * math.sqrt(8)
    assert rows[0]["replica/noise_ratio"] == pytest.approx(noise / (RATE * slope), rel=1e-9)
    assert rows[0]["coupling/kappa_in"] == pytest.approx(RATE * PERIOD / gamma)
    assert rows[0]["replica/distance"] == 0


def test_telemetry_of_local_sgd_measures_the_spread_before_the_reset() -> None:
    coupling = LocalSgd(replicas=3, period=PERIOD, lr=RATE, momentum=0)
    rows, before, center = rows_of(coupling)
    for a, row in enumerate(rows):
        end = before[a] - RATE * gradient(before[a], NOISE[a, -1])
        assert row["replica/distance"] == pytest.approx(float(torch.linalg.vector_norm(end - center)), rel=1e-9)
        assert not {"replica/spring_ratio", "coupling/kappa_in", "coupling/kappa_out"} & row.keys()


def test_telemetry_of_easgd_measures_the_gap_to_the_elastic_center() -> None:
    coupling = Easgd(replicas=3, period=PERIOD, lr=RATE)
    rows, before, center = rows_of(coupling)
    for a, row in enumerate(rows):
        assert row["replica/distance"] == pytest.approx(norms(before - center)[a], rel=1e-9)


def test_telemetry_of_data_parallel_sgd_finds_no_spread() -> None:
    coupling = Sgd(replicas=3, lr=RATE)
    run = train_quadratic(coupling, NOISE, starts=STARTS)
    rows = [replica.telemetry() for replica in run.replicas]
    assert all(row["replica/distance"] == 0 for row in rows)
    points = point_of(run.replicas[0])
    close(points, point_of(run.replicas[2]))
    assert not kept(run.replicas[0], "velocity").eq(0).all()


def test_the_mean_loss_of_a_row_is_that_of_the_steps_since_the_row_before(tmp_path: Path) -> None:
    events: list[Event] = []
    one = training(Parle(replicas=1, lr=0.1, period=30, rho=math.inf), tmp_path, events=events, steps=60)
    losses = _record_losses(one)
    run_together([one.run()], Rounds())
    rows = [event for event in events if event["event"] == "telemetry"]
    assert [row["step"] for row in rows] == [30, 60]
    assert [row["replica/loss"] for row in rows] == pytest.approx(
        [sum(losses[:30]) / 30, sum(losses[30:]) / 30], rel=1e-9
    )


def _record_losses(one: Training) -> list[float]:
    losses: list[float] = []
    loss: Callable[[Tensor, Tensor], Tensor] = one.task.loss

    def recorded(outputs: Tensor, targets: Tensor) -> Tensor:
        value = loss(outputs, targets)
        if outputs.requires_grad:
            losses.append(float(value.detach()))
        return value

    one.task.loss = recorded
    return losses


def test_methods_that_exchange_at_every_step_measure_every_25_steps_and_at_the_end(tmp_path: Path) -> None:
    result = train(tmp_path / "run", ElasticSgd(replicas=2), steps=60)
    assert [row["step"] for row in result.telemetry() if row["replica"] == 0] == [1, 26, 51, 60]


def test_an_auto_spring_needs_a_loss() -> None:
    with pytest.raises(ConfigError, match="balanced against it; give step"):
        Probe().mean_loss()
