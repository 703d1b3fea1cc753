"""The parameter server's rules of membership and rounds, with a clock in the test's hands and no transport."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from deeprelax.coupling.message import CenterStep, Kind, Message
from deeprelax.errors import ExchangeError
from deeprelax.exchange.center import Center
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.coordinator import REMEMBERED_LIVES, Answer, Coordinator, Member, Rules
from deeprelax.exchange.server.wire import join, pack, pack_named, split, unpack, unpack_named

LEASE_S = 2.0


class Clock:
    """Seconds that pass when the test says so; time passes in steps the server would look at."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A coordinator, its clock and short ways to speak to it."""

    def __init__(
        self, replicas: int, *, elastic: bool = True, round_timeout_s: float = 1e9, max_refused: int = 3
    ) -> None:
        self.clock = Clock()
        rules = Rules(
            replicas=replicas,
            elastic=elastic,
            lease_s=LEASE_S,
            round_timeout_s=round_timeout_s,
            max_refused=max_refused,
        )
        self.coordinator = Coordinator(rules, Rounds(), self.clock)

    def say(self, who: str, kind: Kind, exchanges: int, value: float = 0.0) -> Answer | None:
        vectors = (torch.full((3,), value),)
        message = Message(
            kind=kind, vectors=vectors, step=10 * exchanges, exchanges=exchanges, center_steps=(CenterStep(),)
        )
        return self.coordinator.hear(member(who), message)

    def start(self, *who: str, exchanges: int = 0) -> Answer:
        *waiting, last = [self.say(name, "join", exchanges) for name in who]
        assert waiting == [None] * (len(who) - 1)
        assert last is not None
        self.events()
        return last

    def wait(self, seconds: float, *alive: str) -> Answer | None:
        """Let time pass in small steps while ``alive`` send heartbeats; return what that closed."""
        for _ in range(round(seconds / 0.25)):
            self.clock.now += 0.25
            for name in alive:
                self.coordinator.beat(member(name))
            answer = self.coordinator.expire()
            if answer is not None:
                return answer
        return None

    def events(self) -> list[tuple[object, object]]:
        taken = [(row["event"], row["replica"]) for row in self.coordinator.events]
        self.coordinator.events.clear()
        return taken


def member(who: str) -> Member:
    """``"1b"`` is the second life of replica 1."""
    return Member(int(who[0]), who[1:])


def names(answer: Answer | None) -> list[str]:
    assert answer is not None
    return [f"{to.replica}{to.incarnation}" for to in answer.to]


def test_the_first_round_waits_for_all_and_centers_on_their_mean() -> None:
    run = Run(3)
    assert run.say("2a", "join", 0, value=6.0) is None
    assert run.say("0a", "join", 0, value=1.0) is None
    answer = run.say("1a", "join", 0, value=2.0)
    assert names(answer) == ["0a", "1a", "2a"]
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [3.0] * 3
    assert run.events() == [("joined", 2), ("joined", 0), ("joined", 1)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_sum_does_not_depend_on_the_order_of_arrival(order: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    messages = [
        Message(kind="mean", vectors=(torch.randn(1000, generator=generator),), step=0, exchanges=0) for _ in range(3)
    ]
    run = Run(3)
    run.start("0a", "1a", "2a")
    *_, answer = [run.coordinator.hear(member(f"{i}a"), messages[i]) for i in order]
    assert answer is not None
    assert torch.equal(answer.reply.vectors[0], Rounds().complete(messages).vectors[0])


def test_a_lost_member_holds_up_the_others_until_its_lease_ends() -> None:
    run = Run(3)
    run.start("0a", "1a", "2a")
    run.say("0a", "center", 0, value=1.0)
    run.say("2a", "center", 0, value=3.0)
    assert run.wait(LEASE_S, "0a", "2a") is None
    answer = run.wait(0.5, "0a", "2a")
    assert names(answer) == ["0a", "2a"]
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [2.0] * 3
    assert (answer.reply.members, answer.reply.exchanges) == (2, 1)
    assert run.events() == [("lost", 1)]


def test_the_next_round_does_not_wait_for_the_lost_member_again() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    run.wait(3.0, "0a")
    assert names(run.say("0a", "center", 1)) == ["0a"]


def test_a_member_that_has_spoken_counts_even_if_it_dies_then() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("1a", "center", 0, value=4.0)
    assert run.wait(3 * LEASE_S, "0a") is None
    answer = run.say("0a", "center", 0, value=2.0)
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [3.0] * 3


def test_a_member_known_to_be_lost_holds_up_nobody() -> None:
    run = Run(3)
    run.start("0a", "1a", "2a")
    run.say("0a", "center", 0)
    run.say("2a", "center", 0)
    assert names(run.coordinator.lose(1)) == ["0a", "2a"]
    assert run.events() == [("lost", 1)]


def test_what_a_lost_member_said_counts_once() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("1a", "center", 0, value=4.0)
    assert run.coordinator.lose(1) is None
    answer = run.say("0a", "center", 0, value=2.0)
    assert answer is not None
    assert (answer.reply.vectors[0][0].item(), answer.reply.members) == (3.0, 2)
    assert names(run.say("0a", "center", 1)) == ["0a"]


def test_a_replacement_speaks_instead_of_the_lost_member() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("1a", "center", 0, value=100.0)
    run.coordinator.lose(1)
    run.say("1b", "join", 0)
    assert run.say("0a", "center", 0, value=2.0) is None
    answer = run.say("1b", "center", 0, value=4.0)
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [3.0] * 3


def test_a_replacement_takes_part_in_the_round_the_others_are_at() -> None:
    run = Run(3)
    run.start("0a", "1a", "2a")
    run.say("0a", "center", 0, value=5.0)
    run.say("2a", "center", 0, value=5.0)
    run.wait(3.0, "0a", "2a")
    run.say("0a", "center", 1, value=6.0)
    welcome = run.say("1b", "join", 0, value=99.0)
    assert names(welcome) == ["1b"]
    assert welcome is not None
    assert not welcome.averaged
    assert (welcome.reply.step, welcome.reply.exchanges) == (0, 1)
    assert welcome.reply.vectors[0].tolist() == [5.0] * 3
    assert run.say("2a", "center", 1, value=6.0) is None
    answer = run.say("1b", "center", 1, value=9.0)
    assert names(answer) == ["0a", "1b", "2a"]
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [7.0] * 3
    assert run.events() == [("lost", 1), ("rejoined", 1)]


def test_a_replacement_that_comes_before_the_lease_ends_takes_the_place_of_the_lost_one() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0, value=1.0)
    assert names(run.say("1b", "join", 0)) == ["1b"]
    assert names(run.say("1b", "center", 0, value=3.0)) == ["0a", "1b"]
    assert run.events() == [("lost", 1), ("rejoined", 1)]


def test_the_process_that_was_replaced_is_outdated() -> None:
    run = Run(2)
    run.start("0a", "1a")
    assert not run.coordinator.outdated(member("1a"))
    run.say("1b", "join", 0)
    assert run.coordinator.outdated(member("1a"))
    assert not run.coordinator.outdated(member("1b"))


def test_a_dropped_member_that_comes_late_hears_where_the_others_are() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0, value=5.0)
    run.wait(3.0, "0a")
    answer = run.say("1a", "center", 0, value=99.0)
    assert names(answer) == ["1a"]
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [5.0] * 3
    assert run.say("0a", "center", 1) is None, "the others wait for it now"


def test_a_dropped_member_that_comes_in_time_takes_part() -> None:
    run = Run(3)
    run.start("0a", "1a", "2a")
    assert run.wait(3.0, "0a", "2a") is None
    run.say("0a", "center", 0, value=1.0)
    run.say("1a", "center", 0, value=2.0)
    assert names(run.say("2a", "center", 0, value=3.0)) == ["0a", "1a", "2a"]
    assert run.events() == [("lost", 1), ("rejoined", 1)]


def test_time_in_which_the_server_was_deaf_ends_no_lease() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    run.clock.now += 60.0
    assert run.coordinator.expire() is None
    assert run.wait(LEASE_S, "1a") is None
    assert run.events() == []


def test_time_in_which_the_server_was_deaf_is_nobodys_fault_whoever_had_spoken() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    run.clock.now += 60.0
    run.coordinator.expire()
    run.say("1a", "center", 0)
    run.clock.now += 0.25
    assert run.coordinator.expire() is None
    assert run.events() == []


def test_a_late_join_of_a_process_that_was_replaced_does_not_take_its_place_back() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("1b", "join", 0)
    assert run.coordinator.outdated(member("1a"))
    assert not run.coordinator.outdated(member("1b"))


def test_who_has_finished_is_not_heard_again() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.coordinator.leave(member("1a"))
    assert run.coordinator.outdated(member("1a"))


def test_only_so_many_ended_lives_are_remembered() -> None:
    run = Run(2)
    run.start("0a", "1a")
    for life in range(3 * REMEMBERED_LIVES):
        run.say(f"1{life}", "join", 0)
    assert not run.coordinator.outdated(member("1a"))
    assert run.coordinator.outdated(member(f"1{3 * REMEMBERED_LIVES - 2}"))


def test_what_a_process_said_counts_once_even_if_it_was_thought_lost() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("1a", "center", 0, value=4.0)
    run.coordinator.lose(1)
    assert names(run.say("1a", "join", 0)) == ["1a"], "the join arrives a second time"
    answer = run.say("0a", "center", 0, value=2.0)
    assert names(answer) == ["0a", "1a"]
    assert answer is not None
    assert answer.reply.vectors[0].tolist() == [3.0] * 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_and_their_replica_goes_on_from_the_center(value: float) -> None:
    run = Run(2)
    run.start("0a", "1a")
    assert run.say("0a", "center", 0, value=2.0) is None
    answer = run.say("1a", "center", 0, value=value)
    assert names(answer) == ["1a"]
    assert answer is not None
    assert (answer.averaged, answer.reply.exchanges) == (False, 0)
    assert run.events() == [("quarantined", 1)]
    closed = run.coordinator.expire()
    assert names(closed) == ["0a"], "the round does without it"
    assert closed is not None
    assert closed.reply.vectors[0].tolist() == [2.0] * 3
    assert names(run.say("1a", "center", 0, value=4.0)) == ["1a"], "it missed that round"
    assert run.say("0a", "center", 1, value=2.0) is None, "the others wait for it again"
    again = run.say("1a", "center", 1, value=4.0)
    assert again is not None
    assert again.reply.vectors[0].tolist() == [3.0] * 3


def test_a_replica_that_diverges_again_and_again_does_not_stop_the_others() -> None:
    run = Run(2, max_refused=5)
    run.start("0a", "1a")
    for exchanges in range(5):
        run.say("1a", "center", exchanges, value=math.nan)
        assert names(run.say("0a", "center", exchanges, value=2.0)) == ["0a"]
    assert run.coordinator.rounds.exchanges == 5


def test_finite_weights_whose_sum_overflows_are_taken() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0, value=3e38)
    assert names(run.say("1a", "center", 0, value=-3e38)) == ["0a", "1a"]


def come_back(elastic: bool) -> Run:
    """Return a run whose server came back from a checkpoint at exchange 3."""
    run = Run(3, elastic=elastic)
    run.coordinator.rounds.center = Center([torch.full((3,), 9.0)])
    run.coordinator.rounds.step, run.coordinator.rounds.exchanges = 30, 3
    return run


def test_a_server_that_came_back_lets_whoever_speaks_go_on_from_its_center() -> None:
    run = come_back(elastic=True)
    assert run.say("2b", "join", 0) is None, "so far this may be the start of a run"
    answer = run.say("0a", "center", 7, value=1.0)
    assert names(answer) == ["0a", "2b"]
    assert answer is not None
    assert (answer.reply.step, answer.reply.exchanges, answer.reply.vectors[0][0].item()) == (30, 3, 9.0)
    assert names(run.say("1a", "center", 7)) == ["1a"]
    assert [run.say(name, "center", 3) for name in ("0a", "2b")] == [None, None]
    assert names(run.say("1a", "center", 3)) == ["0a", "1a", "2b"]


def test_without_elasticity_a_server_that_came_back_waits_for_all() -> None:
    run = come_back(elastic=False)
    assert [run.say(name, "mean", 7) for name in ("0a", "1a")] == [None, None]
    assert names(run.say("2a", "mean", 7)) == ["0a", "1a", "2a"]
    assert run.coordinator.rounds.exchanges == 3


def test_a_server_that_came_back_without_a_center_says_so() -> None:
    run = Run(1)
    with pytest.raises(ExchangeError, match="lost its center"):
        run.say("0a", "center", 7)


def test_who_has_finished_holds_up_nobody() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    assert names(run.coordinator.leave(member("1a"))) == ["0a"]
    assert run.events() == [("finished", 1)]


def test_without_elasticity_a_lost_member_stops_the_round() -> None:
    run = Run(2, elastic=False)
    run.start("0a", "1a")
    run.say("0a", "mean", 0)
    assert run.wait(10 * LEASE_S, "0a") is None
    assert run.events() == []


def test_without_elasticity_the_whole_group_starts_again_at_the_position_it_joins_at() -> None:
    run = Run(2, elastic=False)
    run.start("0a", "1a")
    for exchanges in range(5):
        run.say("0a", "mean", exchanges)
        run.say("1a", "mean", exchanges)
    run.say("0a", "mean", 5)
    run.coordinator.rounds.stop = True
    again = run.start("1b", "0b", exchanges=3)
    assert again.restarted
    assert (again.reply.step, again.reply.exchanges, again.reply.stop) == (30, 3, True)
    run.say("0b", "mean", 3)
    assert names(run.say("1b", "mean", 3)) == ["0b", "1b"]


def test_a_round_that_never_closes_is_an_error_that_names_who_is_missing() -> None:
    run = Run(3, round_timeout_s=5.0)
    run.start("0a", "1a", "2a")
    run.say("1a", "center", 0)
    with pytest.raises(ExchangeError, match=r"replicas \[0, 2\]"):
        run.wait(6.0, "0a", "1a", "2a")


def test_members_at_different_points_of_the_run_are_an_error() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.say("0a", "center", 0)
    with pytest.raises(ExchangeError, match="out of step"):
        run.say("1a", "mean", 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("size", [0, 1, 7])
def test_vectors_survive_the_wire(dtype: torch.dtype, size: int) -> None:
    vector = torch.arange(size).to(dtype)
    (received,) = unpack(pack([vector]))
    assert received.dtype == dtype
    assert torch.equal(received, vector)


def test_read_only_bytes_are_read_without_a_warning() -> None:
    packed = pack([torch.ones(3)])
    packed.arrays[0].setflags(write=False)
    assert unpack(packed)[0].tolist() == [1.0] * 3


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_slices_of_several_servers_make_the_whole(parts: int) -> None:
    vectors = [torch.arange(7.0), torch.arange(2.0), torch.arange(0.0)]
    whole = join([share.pieces for share in split(vectors, parts)])
    assert [vector.tolist() for vector in whole] == [vector.tolist() for vector in vectors]


def test_named_vectors_are_copies() -> None:
    center = torch.ones(3)
    named = pack_named({"center.0": center})
    center.zero_()
    assert unpack_named(named)["center.0"].tolist() == [1.0] * 3


def test_a_member_that_is_told_to_end_lets_all_save_once_and_goes() -> None:
    run = Run(2)
    run.start("0a", "1a")
    run.coordinator.announce(member("1a"))
    run.coordinator.announce(member("1a"))
    run.say("0a", "center", 0)
    answer = run.say("1a", "center", 0)
    assert answer is not None
    assert (answer.reply.save, answer.reply.stop) == (True, False)
    run.coordinator.leave(member("1a"))
    again = run.say("0a", "center", 1)
    assert again is not None
    assert (again.reply.save, names(again)) == (False, ["0a"])
    assert run.events() == [("leaving", 1), ("left", 1)]
