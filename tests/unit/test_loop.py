"""The training loop: from batches to steps, precision, random streams, parts of the data, divergence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.toyruns import distance, point, train, training
from tests.unit.toytasks import EVERYTHING, Samples, ToyConfig, toy
from torch import nn

from deeprelax.coupling import Coupling, EntropySgd, LocalSgd, Parle, Sgd
from deeprelax.errors import CheckpointError, DivergedError
from deeprelax.exchange.inprocess import run_together, take_turns
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.batches import DataPolicy
from deeprelax.replica.checkpoint import newest, read_tensors
from deeprelax.replica.start import batches_of, build_model

FREE = Parle(replicas=3, lr=0.1, gamma=math.inf, rho=math.inf, period=5)


def test_a_replica_saves_when_it_is_told_to_and_goes_on(tmp_path: Path) -> None:
    events: list[dict[str, object]] = []
    rounds = Rounds()
    loops = [training(FREE, tmp_path, index=a, events=events).run() for a in range(3)]
    for _ in take_turns(loops, rounds):
        rounds.save = rounds.exchanges == 1
    saved = [(row["replica"], row["step"]) for row in events if row["event"] == "checkpoint"]
    assert sorted(saved) == [(a, step) for a in range(3) for step in (10, 20)]


# One step.


@pytest.mark.parametrize("accumulate", [2, 3, 8, 100])
def test_a_batch_computed_in_parts_gives_the_same_steps(accumulate: int, tmp_path: Path) -> None:
    # 97 samples: batches of 7 and 8, parts of unequal size.
    whole = train(tmp_path / "whole", Parle(replicas=2, period=5), {"samples": 97})
    parts = train(tmp_path / "parts", Parle(replicas=2, period=5), {"samples": 97}, accumulate=accumulate)
    assert 0 < distance(whole, parts) < 1e-5
    losses = [[row["replica/loss"] for row in one.telemetry()] for one in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_clipping_bounds_the_gradient_of_the_whole_batch(accumulate: int, tmp_path: Path) -> None:
    plain = Sgd(lr=1, momentum=0)
    start = build_model(toy(ToyConfig()), plain, 3, 0)
    before = nn.utils.parameters_to_vector(start.parameters()).detach()

    def moved(clip_norm: float | None) -> float:
        result = train(tmp_path / str(clip_norm), plain, steps=1, clip_norm=clip_norm, accumulate=accumulate)
        after = nn.utils.parameters_to_vector(result.load_into(start).parameters()).detach()
        return float(torch.linalg.vector_norm(after - before))

    free = moved(None)
    assert free > 0.1
    assert moved(0.1) == pytest.approx(0.1, rel=1e-4)
    assert moved(1e6) == pytest.approx(free, rel=1e-6), "a bound that is not reached changes nothing"


def test_bf16_trains_and_keeps_the_weights_in_float32(tmp_path: Path) -> None:
    half, full = (
        train(tmp_path / precision, Parle(replicas=2, period=5), precision=precision, steps=60)
        for precision in ("bf16", "float32")
    )
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.float32}
    assert half.metrics["center/error"] < 0.2
    assert 1e-5 < distance(half, full) < 0.3, "it must have computed in another precision"


# Random numbers.


def test_replicas_in_one_process_do_not_disturb_each_others_random_numbers(tmp_path: Path) -> None:
    # Three replicas without springs take turns; each is also trained alone. Dropout, augmentation, order: all the same.
    together = [training(FREE, tmp_path, index=a, config=EVERYTHING) for a in range(3)]
    run_together([one.run() for one in together], Rounds())
    for a, one in enumerate(together):
        alone = training(FREE, tmp_path, index=a, config=EVERYTHING)
        run_together([alone.run()], Rounds())
        assert torch.equal(point(alone), point(one))
    assert not torch.equal(point(together[0]), point(together[1]))


def test_judging_and_saving_change_nothing_in_the_training(tmp_path: Path) -> None:
    coupling = Parle(replicas=3, period=5)
    often = train(tmp_path / "often", coupling, EVERYTHING, evaluate_every=0.1, checkpoint_every=0.1)
    never = train(tmp_path / "never", coupling, EVERYTHING, evaluate_every=100, checkpoint_every=0)
    assert len(often.history()) > len(never.history()) == 1
    for name in ("replica-000", "replica-001", "replica-002", "center"):
        files = [run.run_dir / "checkpoints" / "step-00000020" / f"{name}.safetensors" for run in (often, never)]
        left, right = read_tensors(files[0]), read_tensors(files[1])
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), name


def test_training_leaves_the_users_own_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    train(tmp_path / "run", Parle(replicas=2, period=5), EVERYTHING)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_result_does_not_depend_on_the_users_own_random_numbers(tmp_path: Path) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(train(tmp_path / str(seed), EntropySgd(beta=1e3), EVERYTHING))
    assert distance(*results) == 0


# Data.


@pytest.mark.parametrize("policy", ["all", "shards", "overlap"])
def test_a_replica_trains_on_its_part_of_the_data_and_on_all_of_it(policy: DataPolicy, tmp_path: Path) -> None:
    coupling = LocalSgd(replicas=3, lr=0.1, period=4, data=policy)
    several = [training(coupling, tmp_path, index=a, steps=24) for a in range(3)]
    run_together([one.run() for one in several], Rounds())
    for a, one in enumerate(several):
        data = one.task.train_data
        assert isinstance(data, Samples)
        per_pass = one.batches.steps_per_pass
        part = sorted(batches_of(one.task, coupling, 8, 3, a).part().tolist())
        for number in range(24 // per_pass):
            fetched = torch.cat(data.fetched[number * per_pass : (number + 1) * per_pass])
            assert sorted(fetched.tolist()) == part
    assert several[0].batches.steps_per_pass == {"all": 12, "shards": 4, "overlap": 6}[policy]


# Divergence.


@pytest.mark.parametrize(
    ("coupling", "config", "steps"),
    [
        (Parle(replicas=2, period=5), {"poisoned": True}, 20),
        (Parle(replicas=2, lr=1e38, gamma=math.inf, rho=math.inf, period=5), {}, 20),
        (Sgd(lr=1e38), {}, 20),
        (Sgd(lr=1e38), {}, 2),
        (LocalSgd(replicas=2, lr=1e38, period=5), {}, 5),
        (Sgd(lr=1e38), {}, 1),
    ],
    ids=["nan in the data", "lr", "between two rows", "in the last step", "in the last period", "by the last step"],
)
def test_a_loss_that_stops_being_finite_ends_the_run_with_the_way_out(
    coupling: Coupling, config: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    with pytest.raises(DivergedError) as caught:
        train(tmp_path / "run", coupling, config, steps=steps)
    assert "at step" in str(caught.value)
    assert "Use a smaller lr, a softer spring (larger gamma, rho), or clip_norm." in str(caught.value)
    assert not (tmp_path / "run" / "center.safetensors").exists()
    assert not list(tmp_path.glob("run/checkpoints/*/manifest.json"))


# Restoring.


def test_a_checkpoint_without_a_buffer_of_the_model_is_refused(tmp_path: Path) -> None:
    result = train(tmp_path / "run", Sgd())
    one = training(Sgd(lr=0.1), tmp_path, config={"batchnorm": True})
    one.resume = newest(result.run_dir / "checkpoints")
    with pytest.raises(CheckpointError, match=r"holds no buffer '1.running_mean': it belongs to another model"):
        next(one.run())
