"""Eight hours of a run of 64 replicas in virtual time, with 2,000 faults at random, in seconds."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.virtual_run import LEASE_S, PERIOD_S, Process, VirtualRun

from deeprelax.exchange.server.coordinator import REMEMBERED_LIVES

REPLICAS, FAULTS, SECONDS = 64, 2000, 8 * 3600.0
LONGEST_LAG_S, LONGEST_DEAFNESS_S = 30.0, 20.0
# Who is waited for speaks after a period, if late, to a server that may be deaf, or its lease ends.
LONGEST_SILENCE_S = 1.2 * PERIOD_S + LONGEST_LAG_S + LONGEST_DEAFNESS_S + LEASE_S


def some(run: VirtualRun) -> Process:
    return run.random.choice(list(run.processes.values()))


def kill(run: VirtualRun) -> None:
    """A process ends; most deaths are told to the server, the others cost a lease; a replacement comes."""
    victim = some(run)
    replica = victim.member.replica
    run.end_process(victim)
    if run.random.random() < 0.7:
        run.at(run.now + run.draw(0, 2), lambda: run.lose(replica))
    run.at(run.now + run.draw(3, 15), lambda: run.replace(replica))


def hang(run: VirtualRun) -> None:
    some(run).frozen_until = run.now + run.draw(1, 60)


def cut(run: VirtualRun) -> None:
    """A link fails: up to a quarter of the processes are alone for a while."""
    until = run.now + run.draw(1, 40)
    for process in run.random.sample(list(run.processes.values()), run.random.randint(1, REPLICAS // 4)):
        process.cut_until = until


def lag(run: VirtualRun) -> None:
    some(run).lag_s = run.draw(5, LONGEST_LAG_S)


def repeat(run: VirtualRun) -> None:
    """A message arrives twice, also the join of a process that has been replaced since."""
    some(run).repeat_s = run.draw(0, 60)


def replace(run: VirtualRun) -> None:
    """A process is thought dead and replaced, but lives."""
    run.start_process(some(run).member.replica).repeat_s = run.draw(0, 60)


def poison(run: VirtualRun) -> None:
    some(run).poisoned = True


def deafen(run: VirtualRun) -> None:
    run.server_deaf_until = run.now + run.draw(1, LONGEST_DEAFNESS_S)


def kill_server(run: VirtualRun) -> None:
    if run.serving:
        run.kill_server(run.draw(2, 10))


KINDS: tuple[Callable[[VirtualRun], None], ...] = (kill, hang, cut, lag, repeat, replace, poison, deafen)
FATES = ("averaged", "told the center", "superseded", "gone with the server")
SERVER_DEATHS = 1 / 50


def soaked(seed: int) -> VirtualRun:
    """Return a run after all faults and its end."""
    run = VirtualRun(REPLICAS, seed)
    run.run_until(PERIOD_S)
    for fault in range(FAULTS):
        run.run_until(PERIOD_S + SECONDS * fault / FAULTS)
        (kill_server if run.random.random() < SERVER_DEATHS else run.random.choice(KINDS))(run)
    run.stop()
    run.run_until(run.now + 600)
    return run


def test_nothing_is_lost_and_nothing_grows() -> None:
    run = soaked(seed=0)
    assert min(run.ledger.fates.values()) > 100
    assert run.ledger.events["quarantined"] > 100
    assert run.finished == set(range(REPLICAS)), "no replica is lost"
    assert run.processes == {}, "nobody waits for ever"
    assert run.ledger.longest_silence_s < LONGEST_SILENCE_S
    assert run.ledger.largest <= REPLICAS * (REMEMBERED_LIVES + 5), "what is remembered is bounded"
    assert not run.open_messages
    heard = run.ledger.fates["heard"]
    assert heard == sum(run.ledger.fates[fate] for fate in FATES), "no message is lost, none counts twice"
