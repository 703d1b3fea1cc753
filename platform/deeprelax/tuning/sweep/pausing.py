"""Runs that stop at their evaluations to be compared, and go on from there: in another process, or as another trial's.

A paused run is its folder: an ordinary checkpoint, the logs up to it, and ``config.json``. Nothing of it is in memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from deeprelax.config import RunConfig
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import CheckpointError
from deeprelax.exchange.rounds import Rounds
from deeprelax.execution.store import LOGS, RunStore
from deeprelax.replica import checkpoint

PAUSED, CLONED = "paused", "cloned"
"""Events in a run's log."""


class PausingRounds(Rounds):
    """Rounds that ask all replicas to save and stop at the exchange at which the center is judged.

    They have to know it before the exchange is answered: who is answered trains on up to the next one.

    Args:
        rounds: of the run as it was restored.
        every: mini-batch steps between evaluations.
        total: mini-batch steps of the run, at whose end it does not pause.
    """

    def __init__(self, rounds: Rounds, *, every: int, total: int) -> None:
        super().__init__(rounds.center, rounds.step, rounds.exchanges)
        self._every = every
        self._total = total

    def complete(self, messages: Sequence[Message]) -> Reply:
        """Finish a round."""
        step = messages[0].step
        self.stop = step // self._every > self.step // self._every and step < self._total
        return super().complete(messages)


def run_folder(trial: Path, seed: int) -> Path:
    """Return the folder of a trial's run with this seed."""
    return trial / f"seed-{seed}"


def paused_configs(trial: Path, seeds: Sequence[int]) -> list[RunConfig]:
    """Return the runs of a paused trial as their folders say: they may be those of another trial by now.

    Raises:
        CheckpointError: there is no such run here.
    """
    return [RunConfig(**checkpoint.read_json(run_folder(trial, seed) / "config.json")) for seed in seeds]


def seconds_of(store: RunStore) -> float:
    """Return the seconds in which a paused run was computing."""
    rows = store.rows(PAUSED)
    return float(str(rows[-1]["seconds"])) if rows else 0.0


def step_of(run: Path) -> int:
    """Return the mini-batch steps that a paused run has made.

    Raises:
        CheckpointError: it has no checkpoint here.
    """
    return _saved(run).step


def clone(source: Path, target: Path, config: RunConfig, row: Mapping[str, object]) -> None:
    """Put the paused run of one trial in the place of another's, which is given up, under settings of its own.

    The files of a checkpoint are never changed once they are written, so links to them do.

    Args:
        source: folder of the run.
        target: folder of the run that is given up; its logs are removed with it.
        config: what the clone trains with from here on; only its schedules may differ from the source's.
        row: what to write down about it, beside where it happened.

    Raises:
        CheckpointError: the source has no checkpoint here.
    """
    saved = _saved(source)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(saved.path, target / "checkpoints" / saved.path.name, copy_function=_link)
    for name in (*LOGS.values(), "events.jsonl"):
        with suppress(FileNotFoundError):
            shutil.copy(source / name, target / name)
    store = RunStore(target)
    _change_settings(store, saved, config)
    checkpoint.write_json(target / "config.json", config.job())
    store.log({"event": CLONED, "step": saved.step, "exchanges": saved.exchanges, **row})


def _change_settings(store: RunStore, saved: checkpoint.Checkpoint, config: RunConfig) -> None:
    """Give the schedules of the config to every replica of a checkpoint; one that was balanced by measurement stays."""
    given = {name: text for name, text in config.coupling.items() if _given(config, name)}
    folder = checkpoint.folder(store.checkpoints, saved.step)
    for replica in range(saved.replicas):
        file = folder / f"replica-{replica:03d}.json"
        numbers = checkpoint.read_json(file)
        coupling = numbers["coupling"]
        assert isinstance(coupling, dict), "a replica's checkpoint holds its coupling"
        checkpoint.write_json(file, numbers | {"coupling": coupling | given})
    checkpoint.complete(
        store.checkpoints, step=saved.step, exchanges=saved.exchanges, replicas=saved.replicas, cost=saved.cost
    )


def _given(config: RunConfig, name: str) -> bool:
    schedule = config.make_coupling().schedules().get(name)
    return schedule is not None and schedule.shape != "auto"


def _saved(run: Path) -> checkpoint.Checkpoint:
    saved = checkpoint.newest(run / "checkpoints")
    if saved is None:
        raise CheckpointError(
            f"Cannot find a checkpoint in {run}. A population goes on from each other's: on several machines the "
            "folder 'runs' must be one that all of them share."
        )
    return saved


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # not on this file system
        shutil.copyfile(source, target)
