"""A run in virtual time: the library's coordinator, simulated replicas and a network that loses, delays and repeats.

Nothing sleeps and no process is started: a queue of events ordered by time is all there is. What the coordinator does
is compared, after every event, with a record of who joined, who spoke and what they said.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from tests.faults.virtual_record import RULE, Heard, Ledger, Record, entries
from torch import Tensor

from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.center import Center
from deeprelax.exchange.rounds import Rounds
from deeprelax.exchange.server.coordinator import Answer, Coordinator, Member, Rules

LEASE_S, BEAT_S, TICK_S, PERIOD_S = 10.0, 2.5, 0.5, 24.0
STEPS, SIZE = 10, 3
CHECKPOINT_EXCHANGES = 20
LOOK_TICKS = 100


@dataclass(eq=False)
class Process:
    """One life of one replica.

    Attributes:
        frozen_until: it neither computes nor sends heartbeats before (SIGSTOP).
        cut_until: what it sends and what it is sent arrives later than this (a partition).
        lag_s: further delay of its next message.
        repeat_s: when its next message arrives a second time; 0 = never.
        poisoned: its next message is not finite.
        turn: counts its messages; an answer to an older one is ignored.
        said: the newest of them.
    """

    member: Member
    weights: Tensor
    step: int = 0
    exchanges: int = 0
    alive: bool = True
    waits: bool = False
    frozen_until: float = 0.0
    cut_until: float = 0.0
    lag_s: float = 0.0
    repeat_s: float = 0.0
    poisoned: bool = False
    turn: int = 0
    said: Message | None = None


class VirtualRun:
    """A run of n replicas around one coordinator.

    Args:
        replicas: n.
        seed: of all durations and delays.
    """

    def __init__(self, replicas: int, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.rules = Rules(replicas=replicas, lease_s=LEASE_S, round_timeout_s=1e9, max_refused=10**6)
        self.ledger = Ledger()
        self.processes: dict[Member, Process] = {}
        self.finished: set[int] = set()
        self.stopping = False
        self.server_back_at = 0.0
        self.server_deaf_until = 0.0
        self._order = itertools.count()
        self._lives = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._ticks = 0
        self._news_at = 0.0
        self._serve(Rounds())
        for replica in range(replicas):
            self.start_process(replica)
        self.at(TICK_S, self._tick)

    # Time.

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._queue, (when, next(self._order), act))

    def run_until(self, end: float) -> None:
        """Let everything happen that happens before ``end``."""
        while self._queue and self._queue[0][0] <= end:
            self.now, _, act = heapq.heappop(self._queue)
            act()
        self.now = end

    def stop(self) -> None:
        """Ask the run to stop: who hears so finishes."""
        self.stopping = self.coordinator.rounds.stop = True

    def draw(self, low: float, high: float) -> float:
        """Return a duration."""
        return self.random.uniform(low, high)

    # Processes.

    def start_process(self, replica: int) -> Process:
        """Start a process for a replica; one that it may have already is not told."""
        member = Member(replica, str(next(self._lives)))
        process = Process(member, torch.full((SIZE,), self.random.gauss(0, 1), dtype=torch.float64))
        self.processes[member] = process
        self.at(self.now + self.draw(0, 2), lambda: self._speak(process))
        return process

    def replace(self, replica: int) -> None:
        """Start a process for a replica that has none and has not finished."""
        if replica not in self.finished | {member.replica for member in self.processes}:
            self.start_process(replica)

    def end_process(self, process: Process) -> None:
        """Let a process end without a word."""
        process.alive = False
        self.processes.pop(process.member, None)

    def _compute(self, process: Process) -> None:
        self.at(self.now + PERIOD_S * self.draw(0.8, 1.2), lambda: self._speak(process))

    def _speak(self, process: Process) -> None:
        if not process.alive:
            return
        if process.frozen_until > self.now:
            self.at(process.frozen_until, lambda: self._speak(process))
            return
        joins = process.turn == 0
        if not joins:
            process.weights = process.weights * 0.9 + self.random.gauss(0, 0.1)
        vector = torch.full_like(process.weights, torch.nan) if process.poisoned else process.weights
        process.poisoned = False
        step = process.step if joins else process.step + STEPS
        message = Message(
            kind="join" if joins else "center",
            vectors=(vector,),
            step=step,
            exchanges=process.exchanges,
            center_steps=() if joins else RULE,
        )
        process.turn += 1
        process.said, process.waits = message, True
        self._send(process, message)

    def _send(self, process: Process, message: Message) -> None:
        arrives = max(self.now, process.cut_until) + self.draw(0, 0.05) + process.lag_s
        turn = process.turn
        self.at(arrives, lambda: self._arrive(process, message, turn))
        if process.repeat_s:
            self.at(arrives + process.repeat_s, lambda: self._arrive(process, message, turn))
        process.lag_s = process.repeat_s = 0.0

    def _hear(self, process: Process, reply: Reply | None, turn: int) -> None:
        """Take an answer; None says that another process has taken over."""
        if not process.alive or not process.waits or process.turn != turn:
            return
        if process.frozen_until > self.now:
            self.at(process.frozen_until, lambda: self._hear(process, reply, turn))
            return
        process.waits = False
        if reply is None:
            self.ledger.events["told to end"] += 1
            self.end_process(process)
            # A server that came back cannot know which of two lives is the older one, which may have ended since.
            self.at(self.now + self.draw(3, 15), lambda: self.replace(process.member.replica))
            return
        process.step, process.exchanges = reply.step, reply.exchanges
        process.weights = reply.vectors[0]
        if reply.stop:
            self._finish(process)
        else:
            self._compute(process)

    def lose(self, replica: int) -> None:
        """Let the server hear that the process of a replica has ended."""
        if self.now < self.server_deaf_until:
            self.at(self.server_deaf_until, lambda: self.lose(replica))
        else:
            self._settle(lambda: self.coordinator.lose(replica))

    def _finish(self, process: Process) -> None:
        self.end_process(process)
        self.finished.add(process.member.replica)
        self._settle(lambda: self.coordinator.leave(process.member))

    # The server.

    def kill_server(self, seconds: float) -> None:
        """Lose the server and all it was told; after some time it comes back from its newest checkpoint."""
        self.server_back_at = self.now + seconds
        self.record.forget()
        waiting = [process for process in self.processes.values() if process.waits]

        def come_back() -> None:
            self._serve(Rounds(Center.restored(self._saved[0]), *self._saved[1:]))
            for process in waiting:  # their calls have failed with the server; they ask again
                self._ask_again(process)

        self.at(self.server_back_at, come_back)

    def _ask_again(self, process: Process) -> None:
        if process.alive and process.waits and process.said is not None:
            self._send(process, process.said)

    @property
    def open_messages(self) -> int:
        """Messages that the server has heard and not answered."""
        return len(self._waiting)

    @property
    def serving(self) -> bool:
        """Whether there is a server that can be reached."""
        return self.now >= self.server_back_at

    def _serve(self, rounds: Rounds) -> None:
        rounds.stop = self.stopping
        self.coordinator = Coordinator(self.rules, rounds, lambda: self.now)
        self._waiting: dict[Member, tuple[float, int]] = {}
        self.record = Record(rounds, self.rules.replicas, self.ledger)
        self._save()

    def _save(self) -> None:
        rounds = self.coordinator.rounds
        state = rounds.center.state() if rounds.center is not None else {}
        self._saved = ({name: tensor.clone() for name, tensor in state.items()}, rounds.step, rounds.exchanges)

    def _tick(self) -> None:
        self.at(self.now + TICK_S, self._tick)
        self._ticks += 1
        if not self.serving or self.now < self.server_deaf_until:
            return
        if self._ticks % round(BEAT_S / TICK_S) == 0:
            for process in self.processes.values():
                if max(process.frozen_until, process.cut_until) <= self.now:
                    self.coordinator.beat(process.member)
        self._settle(self.coordinator.expire)
        if self._ticks % LOOK_TICKS == 0:
            self.ledger.largest = max(self.ledger.largest, entries(vars(self.coordinator)))
        if self._waiting:
            oldest = min(since for since, _ in self._waiting.values())
            self.ledger.longest_wait_s = max(self.ledger.longest_wait_s, self.now - oldest)
            self.ledger.longest_silence_s = max(self.ledger.longest_silence_s, self.now - max(self._news_at, oldest))

    def _arrive(self, process: Process, message: Message, turn: int) -> None:
        if not self.serving:
            if process.turn == turn:
                self.at(self.server_back_at + 0.1, lambda: self._ask_again(process))
            self.ledger.fates["server gone"] += 1
            return
        if self.now < self.server_deaf_until:
            self.at(self.server_deaf_until, lambda: self._arrive(process, message, turn))
            return
        member = process.member
        if self.coordinator.outdated(member):
            self.ledger.fates["outdated"] += 1
            self._deliver(process, None, turn)
            return
        if process.turn == turn:
            self._waiting[member] = (self.now, turn)
        self._settle(lambda: self.coordinator.hear(member, message), Heard(member, message, turn))

    def _settle(self, act: Callable[[], Answer | None], heard: Heard | None = None) -> None:
        if not self.serving:
            return
        before = self.coordinator.rounds.exchanges
        answer = act()
        if heard is not None:
            self._news_at = self.now
        if self.coordinator.events:
            self._news_at = self.now
            self._take_events()
        if heard is not None:
            self.record.hear(heard, told=answer is not None and not answer.averaged)
        if answer is not None and answer.averaged:
            self.record.close(answer, before)
            if self.coordinator.rounds.exchanges % CHECKPOINT_EXCHANGES == 0:
                self._save()
            self._answer(answer.reply, [(member, None) for member in answer.to])
        else:
            assert self.coordinator.rounds.exchanges == before
        if answer is not None and not answer.averaged:
            assert heard is not None
            assert answer.to == (heard.member,)
            self._answer(answer.reply, [(heard.member, heard.turn)])

    def _take_events(self) -> None:
        self.record.take(self.coordinator.events)
        self.coordinator.events.clear()
        for member in [waiting for waiting in self._waiting if self.coordinator.outdated(waiting)]:
            _, turn = self._waiting.pop(member)
            if member in self.processes:
                self._deliver(self.processes[member], None, turn)

    def _answer(self, reply: Reply, to: Sequence[tuple[Member, int | None]]) -> None:
        """Answer calls: each the one of its turn, or whichever its member waits with."""
        kept = replace(reply, vectors=tuple(vector.clone() for vector in reply.vectors))
        for member, call in to:
            _, waiting = self._waiting.get(member, (0.0, -1))
            turn = waiting if call is None else call
            if turn == waiting:
                self._waiting.pop(member, None)
            if member in self.processes:
                self._deliver(self.processes[member], kept, turn)

    def _deliver(self, process: Process, reply: Reply | None, turn: int) -> None:
        arrives = max(self.now, process.cut_until) + self.draw(0, 0.05)
        self.at(arrives, lambda: self._hear(process, reply, turn))
