"""Where a replica starts: at the beginning of a run, or later as a newcomer."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.toyruns import point, train, training
from tests.unit.toytasks import EVERYTHING, Samples, ToyConfig, toy
from torch import Tensor, nn

from deeprelax.coupling import Coupling, Diloco, Easgd, ElasticSgd, LocalSgd, Parle
from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.flat import FlatModel
from deeprelax.replica.loop import Training
from deeprelax.replica.start import build_model

FREE = Parle(replicas=3, lr=0.1, gamma=math.inf, rho=math.inf, period=5)
Loop = Generator[Message, Reply, None]


def starts(policy: str, count: int = 3, **fields: Any) -> list[dict[str, Tensor]]:
    coupling = Parle(replicas=count, lr=0.1, start=policy, **fields)
    task = toy(ToyConfig(frozen=True))
    models = [build_model(task, coupling, 3, a) for a in range(count)]
    return [{name: parameter.detach() for name, parameter in model.named_parameters()} for model in models]


def test_by_default_all_replicas_start_from_the_same_weights() -> None:
    first, *others = starts("same")
    assert all(torch.equal(other[name], first[name]) for other in others for name in first)


def test_independent_starts_differ_and_replica_0_has_the_common_one() -> None:
    common, independent = starts("same"), starts("independent")
    assert all(torch.equal(independent[0][name], common[0][name]) for name in common[0])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(independent[a]["4.weight"], independent[b]["4.weight"])


def test_noisy_starts_differ_from_the_common_one_by_the_given_deviation() -> None:
    common, noisy = starts("same")[0], starts("noise", start_noise=0.05)
    noise = [torch.cat([(one[name] - common[name]).flatten() for name in ("0.bias", "4.weight")]) for one in noisy]
    assert float(torch.stack(noise).std()) == pytest.approx(0.05, rel=0.3)
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], torch.zeros_like(noise[0])), "replica 0 is moved too"


@pytest.mark.parametrize("policy", ["same", "noise", "independent"])
def test_frozen_parameters_are_the_same_everywhere_and_stay(policy: str, tmp_path: Path) -> None:
    frozen = [one["0.weight"] for one in starts(policy)]
    assert all(torch.equal(one, frozen[0]) for one in frozen)
    result = train(tmp_path / "run", Parle(replicas=3, period=5, start=policy), EVERYTHING)
    assert torch.equal(result.state_dict()["0.weight"], frozen[0])


def test_the_center_starts_at_the_mean_of_the_starts(tmp_path: Path) -> None:
    coupling = FREE.with_fields(start="independent")
    several = [training(coupling, tmp_path, index=a) for a in range(3)]
    starting = torch.stack([point(one) for one in several]).mean(0)
    loops = [one.run() for one in several]
    reply = Rounds().complete([next(loop) for loop in loops])
    assert torch.allclose(reply.vectors[0], starting, atol=1e-7)
    for loop in loops:
        loop.send(reply)
    assert all(torch.equal(one.replica.weights[0]["center"], reply.vectors[0]) for one in several)


# Newcomers.


def newcomer(one: Training, center: Tensor, *, step: int, exchanges: int) -> tuple[Loop, Message]:
    """Let a replica join a run that is at ``step``; return its loop and its first message after that."""
    loop = one.run()
    joining = next(loop)
    assert (joining.kind, joining.step) == ("join", 0)
    return loop, loop.send(Reply(vectors=(center,), step=step, exchanges=exchanges))


def test_a_newcomer_goes_to_the_runs_position_and_trains_from_its_center(tmp_path: Path) -> None:
    coupling = LocalSgd(replicas=3, lr="lin(0.1,0)", period=5)
    one = training(coupling, tmp_path, index=1, steps=40)
    center = torch.randn_like(point(one)) * 0.3
    center[one.replica.weights[0]._padding] = 0
    _, message = newcomer(one, center, step=20, exchanges=4)
    assert (message.kind, message.step, message.exchanges) == ("center", 25, 4)

    model = build_model(one.task, coupling, 3, 1)
    FlatModel(model).load([center])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    batches = [*one.batches.of_pass(1), *one.batches.of_pass(2)]
    for step in range(20, 25):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 40)
        inputs, targets = one.task.train_data.batch(batches[step - 12])
        model.zero_grad()
        one.task.loss(model(inputs), targets).backward()
        optimizer.step()
    expected = nn.utils.parameters_to_vector(model.parameters())
    assert torch.allclose(nn.utils.parameters_to_vector(one.model.parameters()), expected, atol=1e-6)


@pytest.mark.parametrize("coupling", [FREE, Easgd(lr=0.1), ElasticSgd(lr=0.1, period=5), Diloco(lr=0.1, period=5)])
def test_a_newcomer_keeps_nothing_of_its_own_start(coupling: Coupling, tmp_path: Path) -> None:
    center = torch.full_like(point(training(coupling, tmp_path)), 0.1)
    messages = [
        newcomer(
            training(coupling.with_fields(start=start), tmp_path, index=2, steps=40), center, step=20, exchanges=4
        )[1]
        for start in ("same", "independent")
    ]
    assert torch.equal(messages[0].vectors[0], messages[1].vectors[0])


def test_a_newcomer_takes_the_averaged_batchnorm_statistics_too(tmp_path: Path) -> None:
    coupling = LocalSgd(replicas=2, lr=0.1, period=5, batchnorm="average")
    one = training(coupling, tmp_path, config={"batchnorm": True}, steps=40)
    loop = one.run()
    joining = next(loop)
    run = tuple(torch.full_like(vector, 0.25) for vector in joining.vectors)
    seen: list[Tensor] = []
    norm = one.model.get_submodule("1")
    norm.register_forward_pre_hook(lambda module, _: seen.append(module.get_buffer("running_mean").clone()))
    loop.send(Reply(vectors=run, step=20, exchanges=4))
    assert torch.equal(seen[0], torch.full((8,), 0.25))


def test_a_replica_that_missed_rounds_goes_on_from_the_runs_center(tmp_path: Path) -> None:
    one = training(FREE, tmp_path, index=1, steps=40)
    center = point(one)
    loop, message = newcomer(one, center, step=0, exchanges=0)
    assert message.step == 5
    message = loop.send(Reply(vectors=(center,), step=15, exchanges=3))
    assert (message.step, message.exchanges) == (20, 3)
    data = one.task.train_data
    assert isinstance(data, Samples)
    order = torch.cat([torch.cat(one.batches.of_pass(0)), torch.cat(one.batches.of_pass(1))])
    assert torch.equal(torch.cat(data.fetched[5:]), order[15 * 8 : 20 * 8])
