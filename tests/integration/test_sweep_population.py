"""Population-based training on a real cluster: what it finds can be repeated, and its disk does not grow."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.integration.mortal import MORTAL, flagged
from tests.unit.toytasks import TOY
from tests.unit.tuning.sweeps import study_url, toy_space

import deeprelax
from deeprelax.cli import main
from deeprelax.execution.learned import load_learned
from deeprelax.replica.checkpoint import newest


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def population_sweep(trainable: str, folder: Path, **fields: Any) -> deeprelax.SweepResult:
    settings: dict[str, Any] = {"minimize": ("center/loss",), "run": {"epochs": 3}, "sampler": "random"} | fields
    return deeprelax.sweep(
        trainable, space=toy_space(), scheduler="pbt", study=study_url(folder), show_progress=False, **settings
    )


def run(*words: str) -> str:
    ran = CliRunner().invoke(main, list(words))
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def complete_checkpoints(sweeps: Path) -> int:
    return len(list(sweeps.glob("*/trials/*/seed-*/checkpoints/*/manifest.json")))


@contextmanager
def watching(sweeps: Path) -> Iterator[list[int]]:
    """Count the checkpoints of trials again and again."""
    counts: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            counts.append(complete_checkpoints(sweeps))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("ray_cluster")
def test_what_a_population_finds_can_be_repeated_and_its_disk_does_not_grow(tmp_path: Path) -> None:
    with watching(tmp_path / "runs/sweeps") as counts:
        result = population_sweep(TOY, tmp_path, trials=9, population=3, keep_best=1)
    assert result.counts["complete"] == result.counts["asked"] == 9
    lines = (result.folder / "trials.jsonl").read_text().splitlines()
    assert sum("cloned from trial" in line for line in lines) >= 3, "each population of three copies at least once"

    # One a trial that is open, one more while the next is written, one of the best and of the one that replaces it.
    assert 3 <= max(counts) <= 2 * 3 + 2
    assert complete_checkpoints(tmp_path / "runs/sweeps") == 1
    assert result.schedule is not None
    kept = newest(result.schedule / "checkpoints")
    assert kept is not None
    assert (kept.path / "center.safetensors").is_file()

    for command, expected in (
        (result.chosen_by, result.objectives["center/loss"]),
        (run("schedule", str(result.schedule)), result.objectives["center/loss"]),
        (result.command, result.final.metrics["center/loss"] if result.final else None),
    ):
        folder = tmp_path / f"fit-{len(list(tmp_path.iterdir()))}"
        run(*shlex.split(command)[1:], "--run-dir", str(folder))
        assert deeprelax.load_result(folder).metrics["center/loss"] == expected
    learned = load_learned(result.schedule)
    assert learned.winner == result.trial
    assert learned.lineage[0].step == 0


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_population_goes_on_without_a_trial_whose_process_was_killed(tmp_path: Path) -> None:
    flag = flagged(tmp_path)
    result = population_sweep(MORTAL, tmp_path, config={"flag": str(flag)}, trials=3, population=3)
    assert not flag.exists()
    assert (result.counts["complete"], result.counts["failed"]) == (3, 1)
    assert complete_checkpoints(tmp_path / "runs/sweeps") == 0
