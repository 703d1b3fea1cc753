"""Faults as text, and faults in loops of the library: each in its phase, once, and nothing without any."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.toytasks import ToyConfig, toy

from deeprelax.config import RunConfig
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ConfigError, DivergedError, InjectedError
from deeprelax.exchange.base import Exchange, drive
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.entry import make_job, replica_loop
from deeprelax.reference import refer
from deeprelax.replica.loop import Event
from deeprelax.replica.replica import Steps
from deeprelax.testing import FAULTS_VARIABLE, Fault, FaultInjector, FaultPlan
from deeprelax.testing.faults import ACTIONS, PHASES
from deeprelax.testing.injection import injector_of

# As text.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1@40/inside_exchange=kill", Fault(replica=1, step=40, phase="inside_exchange", action="kill")),
        (" *@7/step=stop(2.5) ", Fault(replica=None, step=7, phase="step", action="stop", seconds=2.5)),
        ("0@1/save=delay(1)", Fault(replica=0, step=1, phase="save", action="delay")),
        (
            "0@1/step=raise(ValueError, why not)",
            Fault(replica=0, step=1, phase="step", action="raise", error="ValueError, why not"),
        ),
        (
            "3@9/after_exchange=poison(inf)",
            Fault(replica=3, step=9, phase="after_exchange", action="poison", value=math.inf),
        ),
    ],
)
def test_faults_are_read(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault
    assert Fault.parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kill 1", "Must be REPLICA@STEP/PHASE=ACTION"),
        ("1@0/step=kill", "Invalid step=0"),
        ("1@5/before=kill", "Unknown phase 'before'"),
        ("1@5/step=explode", "Unknown action 'explode'"),
        ("1@5/step=kill(3)", "nothing that kill takes"),
        ("1@5/step=stop(soon)", "nothing that stop takes"),
        ("1@5/step=stop(0)", "Invalid seconds"),
        ("1@5/save=poison", "Invalid phase='save' of poison"),
        ("1@5/inside_exchange=raise", "of raise"),
        ("1@5/step=raise(NoSuchError)", "Unknown error 'NoSuchError'"),
        ("1@5/step=raise(dict)", "Unknown error 'dict'"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FaultPlan.parse(f"0@1/step=kill; {text}")
    assert says in str(caught.value)
    assert text in str(caught.value)


def possible(fault: tuple[Any, ...]) -> bool:
    phase, action = fault[2], fault[3]
    refused = {"poison": {"inside_exchange", "save"}, "raise": {"inside_exchange"}}
    return phase not in refused.get(action, set())


FAULTS = st.tuples(
    st.none() | st.integers(0, 99),
    st.integers(1, 10**6),
    st.sampled_from(PHASES),
    st.sampled_from(ACTIONS),
    st.floats(1e-3, 1e3),
    st.sampled_from(["DivergedError", "OSError, disk", "InjectedError"]),
).filter(possible)


@settings(max_examples=50, deadline=None)
@given(st.lists(FAULTS, max_size=4), st.sampled_from([None, "/tmp/marks"]))
def test_a_plan_survives_as_text(drawn: list[tuple[Any, ...]], folder: str | None) -> None:
    names = ("replica", "step", "phase", "action", "seconds", "error")
    plan = FaultPlan(faults=tuple(Fault(**dict(zip(names, one, strict=True))) for one in drawn), once_in=folder)
    again = FaultPlan.parse(str(plan))
    assert str(again) == str(plan)
    assert [(f.replica, f.step, f.phase, f.action) for f in again.faults] == [one[:4] for one in drawn]


def test_the_environment_reaches_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULTS_VARIABLE, "1@5/step=kill")
    assert FaultPlan.parse(str(job_of(tmp_path)["faults"])).faults == (Fault.parse("1@5/step=kill"),)
    monkeypatch.setenv(FAULTS_VARIABLE, "oops")
    with pytest.raises(ConfigError, match=f"Invalid {FAULTS_VARIABLE}: Invalid fault 'oops'"):
        job_of(tmp_path)


def test_a_replica_that_starts_again_in_its_process_meets_no_fault_twice() -> None:
    def loop() -> Steps[None]:
        yield Message(kind="center", vectors=(torch.ones(2),), step=1, exchanges=0)

    def is_poisoned(run: str) -> bool:
        said = next(injector_of("1@1/before_exchange=poison", 1, run).around(loop()))
        return not bool(said.vectors[0].isfinite().all())

    assert [is_poisoned(run) for run in ("one", "one", "another")] == [True, False, True]


# In a replica's real loop.


class Alone(Exchange):
    """One replica's rounds; keeps what it said."""

    def __init__(self) -> None:
        self.rounds = Rounds()
        self.said: list[Message] = []
        self.sums: list[float] = []

    def exchange(self, message: Message) -> Reply:
        self.said.append(message)
        self.sums.append(sum(float(vector.sum()) for vector in message.vectors))
        return self.rounds.complete([message])


def job_of(folder: Path, faults: str | None = None) -> dict[str, object]:
    config = RunConfig(
        trainable="toy", method="parle", coupling={"replicas": 1, "period": 4}, steps=20, checkpoint_every=0.5
    )
    job = make_job(config.resolved(toy(ToyConfig())), refer(toy), folder)
    return job if faults is None else job | {"faults": faults}


def trained(folder: Path, faults: str, replica: int = 0) -> tuple[Alone, list[Event]]:
    exchange, events = Alone(), list[Event]()
    center = exchange.rounds.center
    drive(
        replica_loop(job_of(folder, faults), replica, "cpu", events.append, lambda: center.state() if center else {}),
        exchange,
    )
    return exchange, events


def test_without_faults_nothing_is_put_around_the_loop(tmp_path: Path) -> None:
    loops = [
        replica_loop(job_of(tmp_path, text), 0, "cpu", print, dict) for text in ("", "1@5/step=kill", "0@5/step=kill")
    ]
    names = [loop.__qualname__ for loop in loops]  # type: ignore[attr-defined]
    assert names == ["Training.run", "Training.run", "FaultInjector.around"]


def test_a_fault_that_does_nothing_changes_no_number(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "plain", "")
    delayed, _ = trained(tmp_path / "delayed", "*@3/step=delay(0.001); *@1/before_exchange=delay(0.001)")
    assert delayed.sums == plain.sums


@pytest.mark.parametrize(
    ("phase", "step", "messages"),
    [("step", 6, 2), ("before_exchange", 6, 2), ("before_exchange", 8, 2), ("after_exchange", 6, 3)],
)
def test_a_fault_happens_in_its_phase(tmp_path: Path, phase: str, step: int, messages: int) -> None:
    exchange = Alone()
    loop = replica_loop(job_of(tmp_path, f"0@{step}/{phase}=raise(DivergedError, now)"), 0, "cpu", lambda _: None, dict)
    with pytest.raises(DivergedError, match=r"^now$"):
        drive(loop, exchange)
    assert len(exchange.said) == messages, "the join, one exchange at step 4, and the one at step 8"


def test_a_fault_at_a_checkpoint_leaves_it_on_disk_and_tells_nobody(tmp_path: Path) -> None:
    events: list[Event] = []
    loop = replica_loop(job_of(tmp_path, "0@1/save=raise"), 0, "cpu", events.append, dict)
    with pytest.raises(InjectedError):
        drive(loop, Alone())
    assert list(tmp_path.rglob("*.safetensors"))
    assert not [event for event in events if event["event"] == "checkpoint"]


@pytest.mark.parametrize(("phase", "seen"), [("before_exchange", 8), ("step", 8), ("after_exchange", 12)])
def test_poison_reaches_the_weights(tmp_path: Path, phase: str, seen: int) -> None:
    exchange = Alone()
    loop = replica_loop(job_of(tmp_path, f"0@5/{phase}=poison"), 0, "cpu", lambda _: None, dict)
    with pytest.raises(DivergedError):
        drive(loop, exchange)
    bad = [m.step for m, total in zip(exchange.said, exchange.sums, strict=True) if not math.isfinite(total)]
    assert bad[0] == seen


def test_poison_after_an_exchange_leaves_the_center_alone() -> None:
    center = torch.ones(3)

    def loop() -> Any:
        reply = yield Message(kind="join", vectors=(torch.zeros(3),), step=0, exchanges=0)
        reply = yield Message(kind="center", vectors=(torch.zeros(3),), step=5, exchanges=0)
        assert bool(reply.vectors[0].isnan().all())

    injector = FaultInjector(FaultPlan.parse("0@5/after_exchange=poison"), 0)
    disturbed = injector.around(loop())
    next(disturbed)
    for step in (0, 5):
        try:
            disturbed.send(Reply(vectors=(center,), step=step, exchanges=0))
        except StopIteration:
            break
    assert center.tolist() == [1.0] * 3
    assert not injector.active


def test_a_fault_happens_once_and_not_to_a_replacement(tmp_path: Path) -> None:
    plan = FaultPlan.parse(f"once_in={tmp_path / 'marks'}; *@5/step=kill")
    (fault,) = plan.faults
    assert [plan.claim(fault, replica) for replica in (0, 1, 0)] == [True, True, False]


def test_a_replacement_starts_behind_the_faults_of_the_one_before() -> None:
    injector = FaultInjector(FaultPlan.parse("0@5/before_exchange=kill"), 0)

    def loop() -> Any:
        yield Message(kind="join", vectors=(), step=0, exchanges=0)
        yield Message(kind="center", vectors=(), step=10, exchanges=1)

    disturbed = injector.around(loop())
    next(disturbed)
    disturbed.send(Reply(vectors=(), step=5, exchanges=1))
    assert not injector.active


# Real signals, to processes that one process forks, so that torch is imported once.

SIGNALLED = """
import json, os, sys, time
from deeprelax.coupling.message import Message, Reply
from deeprelax.testing import FaultInjector, FaultPlan

def loop():
    yield Message(kind="join", vectors=(), step=0, exchanges=0)
    for step in (5, 10):
        yield Message(kind="center", vectors=(), step=step, exchanges=0)

def child(fault, answer_s, out):
    disturbed = FaultInjector(FaultPlan.parse(fault), 0).around(loop())
    message = next(disturbed)
    for _ in range(2):
        os.write(out, f"{message.kind} {message.step},".encode())
        if message.step:
            time.sleep(answer_s)
        message = disturbed.send(Reply(vectors=(), step=message.step, exchanges=0))
    os.write(out, b"went on")
    os._exit(0)

seen = []
for fault, answer_s in json.loads(sys.argv[1]):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        child(fault, answer_s, write)
    os.close(write)
    states = []
    while not states or os.WIFSTOPPED(states[-1]):
        states.append(os.waitpid(pid, os.WUNTRACED)[1])
    words = [os.WSTOPSIG(s) if os.WIFSTOPPED(s) else -os.WTERMSIG(s) if os.WIFSIGNALED(s) else "ended" for s in states]
    seen.append([words, os.read(read, 1000).decode()])
print(json.dumps(seen))
"""


def test_signals_hit_the_own_process_in_their_phase() -> None:
    cases = [
        ("0@5/before_exchange=kill", 0.0),
        ("0@5/inside_exchange=kill", 60.0),
        ("0@5/after_exchange=kill", 0.0),
        ("0@5/after_exchange=stop(0.2)", 0.0),
    ]
    words = [sys.executable, "-c", SIGNALLED, json.dumps(cases)]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120, env=dict(os.environ))
    killed = [-signal.SIGKILL]
    assert json.loads(ran.stdout) == [
        [killed, "join 0,"],
        [killed, "join 0,center 5,"],
        [killed, "join 0,center 5,"],
        [[signal.SIGSTOP, "ended"], "join 0,center 5,went on"],
    ]
