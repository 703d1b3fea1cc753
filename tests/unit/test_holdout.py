"""Training data held out to choose by: the same part in every run, never trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.unit.toyruns import train
from tests.unit.toytasks import ToyConfig, toy

from deeprelax.config import RunConfig
from deeprelax.coupling import Parle, Sgd
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ConfigError
from deeprelax.exchange.base import Exchange, drive
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.entry import make_job, replica_loop
from deeprelax.reference import refer
from deeprelax.replica.holdout import hold_out


class Alone(Exchange):
    """The exchange of a run with one replica."""

    def __init__(self) -> None:
        self._rounds = Rounds()

    def exchange(self, message: Message) -> Reply:
        return self._rounds.complete([message])


def rows(inputs: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in inputs.tolist()}


def test_the_parts_are_disjoint_and_together_the_training_set() -> None:
    task = toy(ToyConfig(samples=90))
    split = hold_out(task, 0.2)
    kept, held = (data.batch(torch.arange(len(data)))[0] for data in (split.train_data, split.test_data))
    assert (len(kept), len(held)) == (72, 18)
    assert rows(kept).isdisjoint(rows(held))
    assert rows(kept) | rows(held) == rows(task.train_data.batch(torch.arange(90))[0])
    again = hold_out(task, 0.2).test_data.batch(torch.arange(18))[0]
    assert torch.equal(held, again), "every run is judged on the same samples"


def test_inputs_keep_their_targets() -> None:
    task = toy(ToyConfig())
    everything = dict(zip(map(tuple, task.train_data.batch(torch.arange(96))[0].tolist()), range(96), strict=True))
    inputs, targets = hold_out(task, 0.5).test_data.batch(torch.tensor([3, 1]))
    whole = torch.tensor([everything[tuple(row)] for row in inputs.tolist()])
    assert torch.equal(task.train_data.batch(whole)[1], targets)


def test_without_a_holdout_the_task_is_as_it_was() -> None:
    task = toy(ToyConfig())
    assert hold_out(task, 0.0) is task


@pytest.mark.parametrize("fraction", [0.001, 0.9999])
def test_an_empty_part_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=rf"Invalid holdout={fraction}\. Of 96 training samples it holds out"):
        hold_out(toy(ToyConfig()), fraction)


def test_a_run_with_a_holdout_trains_on_less_and_says_so(tmp_path: Path) -> None:
    held = train(tmp_path / "held", Parle(replicas=2, period=4), steps=None, epochs=2, holdout=0.25)
    whole = train(tmp_path / "whole", Parle(replicas=2, period=4), steps=None, epochs=2)
    assert (held.config.steps, whole.config.steps) == (2 * 9, 2 * 12)
    assert held.config.holdout == 0.25
    assert held.metrics != whole.metrics


def test_a_worker_holds_out_the_same_part(tmp_path: Path) -> None:
    task = toy(ToyConfig())
    config = RunConfig(trainable="toy", method="sgd", steps=3, holdout=0.25)
    resolved = config.resolved(config.judged(task))
    events: list[dict[str, object]] = []
    drive(replica_loop(make_job(resolved, refer(toy), tmp_path), 0, "cpu", events.append, dict), Alone())
    rows = [event for event in events if event["event"] == "evaluation"]
    here = train(tmp_path / "here", Sgd(), steps=3, seed=0, holdout=0.25)
    assert rows[-1]["center/loss"] == here.metrics["center/loss"]
