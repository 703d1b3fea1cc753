"""Drivers, each with a Ray instance of its own, whose processes can be killed like those of a machine that dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults import sweep_driver

_GONE_S = 30.0


class Driver:
    """A running ``sweep_driver.py`` in a session of its own, to which all processes of its Ray belong.

    Args:
        folder: where it works; its sweeps and what it says are there.
        trials: of every sweep.
    """

    def __init__(self, folder: Path, trials: int) -> None:
        self.folder = folder
        # Ray's socket paths may have 107 bytes at most, so pytest's own temporary folder is too deep.
        self._ray = Path(tempfile.mkdtemp(prefix="drf"))
        folder.mkdir()
        self._said, self._told = folder / "said", folder / "told"
        command = [sys.executable, sweep_driver.__file__, str(self._ray), str(trials)]
        with self._said.open("w") as said, self._told.open("w") as told:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stdout=told, stderr=said, text=True, start_new_session=True
            )
        self._sweeps = 0
        self._heard = 0

    def take(self, url: str) -> None:
        """Let it take part in the sweep of a database, once it has ended the one before."""
        self._sweeps += 1
        self._heard = self._said.stat().st_size
        assert self.process.stdin is not None
        self.process.stdin.write(f"{url}\n")
        self.process.stdin.flush()

    @property
    def said(self) -> str:
        """What it has written since it was given the sweep."""
        return self._said.read_bytes()[self._heard :].decode()

    @property
    def ended(self) -> list[tuple[int, str]]:
        """Number and outcome of the trials of which it has said so in this sweep."""
        found = re.findall(r"^trial (\d+)  (\w+)\b.*\n", self.said, re.MULTILINE)
        return [(int(number), outcome) for number, outcome in found]

    @property
    def summary(self) -> dict[str, Any] | None:
        """What it has returned of the sweep, or None as long as it takes part."""
        lines = self._told.read_text().splitlines(keepends=True)
        if len(lines) < self._sweeps or not lines[-1].endswith("\n"):
            return None
        summary: dict[str, Any] = json.loads(lines[-1])
        return summary

    @property
    def processes(self) -> dict[int, str]:
        """Command lines of all its living processes, by their id."""
        return dict(_session(self.process.pid))

    def kill(self) -> None:
        """Kill it alone. What it has started is to see that and go."""
        self.process.kill()
        self.process.wait()

    def kill_all(self) -> None:
        """Kill it and everything it has started."""
        give_up = time.monotonic() + _GONE_S
        while processes := self.processes:
            assert time.monotonic() < give_up, processes
            for pid in processes:
                _kill(pid)
            self.process.poll()
            time.sleep(0.05)
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # what it was still to read
            self.process.stdin.close()
        self.process.wait()
        shutil.rmtree(self._ray, ignore_errors=True)

    def kill_trial(self) -> bool:
        """Kill the process in which it trains, and return whether there was one."""
        found = [pid for pid, command in self.processes.items() if command.startswith("ray::SweepTrial")]
        return bool([pid for pid in found if _kill(pid)])


class Fleet:
    """A number of drivers, and perhaps one in reserve. Leave it as a context manager to end them all.

    Args:
        size: how many.
        folder: under which they work.
        trials: of every sweep.
    """

    def __init__(self, size: int, folder: Path, trials: int) -> None:
        self._folder, self._trials = folder, trials
        self._started: list[Driver] = []
        self.drivers = [self._start() for _ in range(size)]
        self._spare: Driver | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for driver in self._started:
            driver.kill_all()

    def prepare(self) -> None:
        """Start the driver in reserve."""
        self._spare = self._spare or self._start()

    def replace(self, dead: Driver) -> Driver:
        """Put the driver in reserve in the place of one that was killed."""
        self.prepare()
        assert self._spare is not None
        fresh, self._spare = self._spare, None
        self.drivers[self.drivers.index(dead)] = fresh
        return fresh

    def _start(self) -> Driver:
        driver = Driver(self._folder / f"driver-{len(self._started)}", self._trials)
        self._started.append(driver)
        return driver


def _session(leader: int) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        try:
            # After the command in parentheses: state, parent, group, session.
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                yield int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue  # no process, or one that has just gone


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
