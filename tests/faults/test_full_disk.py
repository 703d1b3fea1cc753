"""A sweep on a disk that is really full: one clear error, nothing lost, and it goes on once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.tune.search import Searcher
from tests.unit.tuning.studies import terms
from tests.unit.tuning.sweeps import Sweeping, study_url, sweeping
from tests.unit.tuning.test_sweep_trial import given, to_the_end

from deeprelax import resume_sweep
from deeprelax.errors import DeepRelaxError, StudyError
from deeprelax.tuning.study import Study
from deeprelax.tuning.sweep.trial import SweepTrial

TOYS = f"{Path(__file__).parents[1]}/unit/tuning/sweeps.py:toy_space"


@dataclass
class Disk:
    """A small file system."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(1024))
        assert os.statvfs(self.folder).f_bavail == 0

    def make_room(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("Needs root, to mount a small file system.")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"Needs the right to mount a small file system: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_result_waits_for_room_in_the_study(disk: Disk) -> None:
    with Study.open("parabola", terms(trials=2), url=study_url(disk.folder), patience_s=0.2) as study:
        trial = study.ask()
        assert trial is not None
        disk.fill()
        trial.note(text="x" * 100_000)
        with pytest.raises(StudyError, match=r"the disk is full\. Make room; every result stored so far is safe"):
            trial.complete([1.0])
        disk.make_room()
        trial.complete([1.0])
        assert study.trials()[0].values == [1.0]
        assert len(study.trials()[0].user_attrs["text"]) == 100_000


def test_a_trial_whose_files_find_no_room_goes_back_and_ends_the_sweep(disk: Disk, tmp_path: Path) -> None:
    with sweeping(tmp_path, run={"epochs": 1.0}, trials=1) as toys:
        disk.fill()
        assert train(toys, "a", disk.folder)["disk_full"] is True
        assert isinstance(toys.searcher.error, DeepRelaxError)
        assert str(toys.searcher.error) == (
            f"The disk of {disk.folder} is full. Make room and start the sweep again; every result so far is in its "
            "study."
        )
        assert toys.searcher.suggest("b") == Searcher.FINISHED
        assert toys.study.counts()["failed"] == 0, "it was not its fault"
        assert toys.study.counts()["preempted"] == toys.study.counts()["waiting"] == 1
        disk.make_room()
        toys.searcher.error = None
        assert train(toys, "b", disk.folder)["finished"] is True
        assert toys.study.counts()["complete"] == 1


def test_the_end_of_a_sweep_is_made_again_once_there_is_room(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sweeping(tmp_path, run={"epochs": 1.0}, trials=2, space=TOYS) as toys:
        for name in "ab":
            train(toys, name, tmp_path / "trials")
    monkeypatch.chdir(disk.folder)
    disk.fill()
    with pytest.raises(DeepRelaxError, match=r"The disk of .*/runs/sweeps/toys.* is full. Make room"):
        resume_sweep("toys", study=f"sqlite:///{tmp_path}/studies.db")
    disk.make_room()
    result = resume_sweep("toys", study=f"sqlite:///{tmp_path}/studies.db")
    assert result.counts["complete"] == 2
    assert result.final is not None
    assert (result.folder / "sweep.json").is_file()


def train(toys: Sweeping, name: str, folder: Path) -> dict[str, object]:
    """Train the next trial in this process, tell the searcher, and return the last that it reported."""
    process = SweepTrial.__new__(SweepTrial)
    process.setup(toys.ask(name), given(folder))
    rows = to_the_end(process)
    toys.searcher.on_trial_complete(name, rows[-1])
    return rows[-1]
