"""The center: how it moves towards the mean, in which order the mean is summed, and which rounds are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from deeprelax.coupling.message import CenterStep, Kind, Message
from deeprelax.errors import ExchangeError
from deeprelax.exchange.base import Exchange, drive
from deeprelax.exchange.center import Center, mean_of, mean_scalars
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds

ZERO, MEAN = torch.tensor([0.0, 10.0]), torch.tensor([1.0, 12.0])


def message(
    kind: Kind,
    *vectors: Tensor,
    step: int = 0,
    exchanges: int = 0,
    center_step: CenterStep | None = None,
    loss: float = 0.0,
) -> Message:
    steps = tuple(center_step or CenterStep() for _ in vectors)
    return Message(kind=kind, vectors=vectors, step=step, exchanges=exchanges, center_steps=steps, scalars=(loss,))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (CenterStep(), [1.0, 12.0]),
        (CenterStep(lr=0.5), [0.5, 11.0]),
        (CenterStep(lr=1.5), [1.5, 13.0]),
        (CenterStep(lr=0.5, momentum=0.8), [0.9, 11.8]),  # G + m v = 1.8 G at the first step
    ],
)
def test_center_moves_towards_the_mean_by_its_step(step: CenterStep, expected: list[float]) -> None:
    center = Center([ZERO])
    center.advance([MEAN], [step])
    torch.testing.assert_close(center.vectors[0], torch.tensor(expected))
    assert step.is_mean == (expected == MEAN.tolist())


def test_center_with_momentum_is_torch_sgd_on_the_gap() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64))
    center = Center([parameter])
    optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    for _ in range(5):
        mean = torch.randn(5, generator=generator, dtype=torch.float64)
        parameter.grad = parameter.detach() - mean
        optimizer.step()
        center.advance([mean], [CenterStep(lr=0.7, momentum=0.9)])
        torch.testing.assert_close(center.vectors[0], parameter.detach(), rtol=1e-14, atol=1e-14)


def test_a_step_of_0_leaves_the_center_and_the_groups_hear_their_means() -> None:
    rounds = Rounds(Center([ZERO]))
    said = [replace(message("center", MEAN * k, center_step=CenterStep(lr=0)), group=k % 2) for k in range(4)]
    reply = rounds.complete(said)
    assert torch.equal(reply.vectors[0], ZERO)
    assert [reply.told(group).group[0].tolist() for group in (0, 1)] == [MEAN.tolist(), (2 * MEAN).tolist()]
    assert reply.told(None).group == ()


@pytest.mark.parametrize(("scores", "best"), [((2.0, 1.0, 1.0), 1), ((float("nan"), 9.0, 10.0), 1)])
def test_where_members_are_ranked_the_first_best_takes_the_place_of_the_mean(
    scores: tuple[float, ...], best: int
) -> None:
    rounds = Rounds(Center([ZERO]))
    said = [replace(message("center", MEAN + k), score=score) for k, score in enumerate(scores)]
    assert torch.equal(rounds.complete(said).vectors[0], MEAN + best)


def test_center_is_bitwise_the_mean_when_it_is_the_mean() -> None:
    mean = torch.tensor([0.1, 1e30, 1e-30])
    center = Center([torch.full((3,), 1e8)])
    center.advance([mean], [CenterStep()])
    assert torch.equal(center.vectors[0], mean)
    assert center.velocity == []


def test_every_vector_moves_by_its_own_step() -> None:
    center = Center([ZERO, ZERO])
    center.advance([MEAN, MEAN], [CenterStep(lr=0.5), CenterStep()])
    torch.testing.assert_close(center.vectors[0], torch.tensor([0.5, 11.0]))
    assert torch.equal(center.vectors[1], MEAN)


def test_center_is_a_copy_of_where_it_starts() -> None:
    start = ZERO.clone()
    center = Center([start])
    start.fill_(7.0)
    assert torch.equal(center.vectors[0], ZERO)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_restored_center_continues_bit_for_bit(momentum: float) -> None:
    step = CenterStep(lr=0.3, momentum=momentum)
    center = Center([ZERO, MEAN])
    center.advance([MEAN, ZERO], [step, step])
    again = Center.restored({name: tensor.clone() for name, tensor in center.state().items()})
    for each in (center, again):
        each.advance([MEAN, MEAN], [step, step])
    assert all(torch.equal(one, other) for one, other in zip(center.vectors, again.vectors, strict=True))
    assert len(again.velocity) == (2 if momentum else 0)


def test_mean_is_summed_in_the_order_given() -> None:
    large, one = torch.tensor([2.0**24]), torch.tensor([1.0])
    assert mean_of([[large], [one], [one], [-large]])[0].item() == 0.0
    assert mean_of([[one], [one], [large], [-large]])[0].item() == 0.5


def test_mean_of_one_is_a_copy_of_it() -> None:
    only = torch.tensor([0.1, 0.2])
    (mean,) = mean_of([[only]])
    assert torch.equal(mean, only)
    assert mean.data_ptr() != only.data_ptr()


def test_mean_leaves_the_messages_as_they_are() -> None:
    members = [[ZERO.clone()], [MEAN.clone()]]
    torch.testing.assert_close(mean_of(members)[0], torch.tensor([0.5, 11.0]))
    assert torch.equal(members[0][0], ZERO)
    assert torch.equal(members[1][0], MEAN)


def test_scalars_are_averaged_by_position_and_must_be_alike() -> None:
    assert mean_scalars([(1.0, 10.0), (3.0, 20.0)]) == (2.0, 15.0)
    assert mean_scalars([(), ()]) == ()
    with pytest.raises(ValueError, match="zip"):
        mean_scalars([(1.0,), ()])


# Rounds.


def test_join_starts_the_center_at_the_mean_and_a_newcomer_only_reads_it() -> None:
    rounds = Rounds()
    reply = rounds.complete([message("join", ZERO), message("join", MEAN)])
    torch.testing.assert_close(reply.vectors[0], torch.tensor([0.5, 11.0]))
    assert (reply.step, reply.exchanges, reply.members) == (0, 0, 2)
    rounds.complete([message("center", MEAN, step=5), message("center", MEAN, step=5)])
    late = rounds.complete([message("join", torch.tensor([99.0, 99.0]))])
    assert torch.equal(late.vectors[0], MEAN)
    assert (late.step, late.exchanges) == (5, 1)


def test_center_round_moves_the_center_and_counts_and_a_mean_round_leaves_it() -> None:
    rounds = Rounds()
    rounds.complete([message("join", ZERO)])
    half = CenterStep(lr=0.5)
    reply = rounds.complete([message("center", MEAN, step=4, center_step=half, loss=3.0)])
    torch.testing.assert_close(reply.vectors[0], torch.tensor([0.5, 11.0]))
    assert (reply.step, reply.exchanges, reply.scalars) == (4, 1, (3.0,))
    only_mean = rounds.complete(
        [message("mean", MEAN, step=5, exchanges=1), message("mean", ZERO, step=5, exchanges=1)]
    )
    torch.testing.assert_close(only_mean.vectors[0], torch.tensor([0.5, 11.0]))
    assert rounds.center is not None
    torch.testing.assert_close(rounds.center.vectors[0], torch.tensor([0.5, 11.0]))
    assert only_mean.exchanges == 2


def test_stop_reaches_every_member() -> None:
    rounds = Rounds()
    assert not rounds.complete([message("join", ZERO)]).stop
    rounds.stop = True
    assert rounds.complete([message("center", ZERO)]).stop


@pytest.mark.parametrize(
    "other",
    [
        message("center", MEAN, step=5, exchanges=1),
        message("center", MEAN, step=4, exchanges=2),
        message("mean", MEAN, step=4, exchanges=1),
        message("join", MEAN),
    ],
    ids=["step", "exchanges", "kind", "join"],
)
def test_round_of_members_out_of_step_is_refused_and_moves_nothing(other: Message) -> None:
    rounds = Rounds()
    rounds.complete([message("join", ZERO)])
    with pytest.raises(ExchangeError, match="out of step"):
        rounds.complete([message("center", MEAN, step=4, exchanges=1), other])
    assert rounds.center is not None
    assert torch.equal(rounds.center.vectors[0], ZERO)
    assert (rounds.step, rounds.exchanges) == (0, 0)


def test_round_without_members_is_refused() -> None:
    with pytest.raises(ExchangeError):
        Rounds().complete([])


def test_resumed_rounds_continue_center_and_counters() -> None:
    rounds = Rounds(Center([MEAN]), step=40, exchanges=4)
    reply = rounds.complete([message("join", ZERO), message("join", ZERO)])
    assert torch.equal(reply.vectors[0], MEAN)
    assert (reply.step, reply.exchanges) == (40, 4)


def test_loops_of_one_process_and_of_an_exchange_see_the_same_replies() -> None:
    class Alone(Exchange):
        def __init__(self) -> None:
            self.rounds = Rounds()

        def exchange(self, message: Message) -> object:  # type: ignore[override]
            return self.rounds.complete([message])

    def loop(seen: list[float]):  # type: ignore[no-untyped-def]
        reply = yield message("join", ZERO)
        for k in range(3):
            reply = yield message("center", reply.vectors[0] + 1.0, step=k, exchanges=k, center_step=CenterStep(lr=0.5))
            seen.append(float(reply.vectors[0][0]))

    together: list[float] = []
    driven: list[float] = []
    run_together([loop(together)], Rounds())
    drive(loop(driven), Alone())
    assert together == driven == [0.5, 1.0, 1.5]
