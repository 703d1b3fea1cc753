"""The folder of a run: everything about it in plain files.

::

    config.json          the resolved config          environment.json    versions, machine, git commit
    metrics.jsonl        one line an evaluation       telemetry.jsonl     one line a replica and exchange
    events.jsonl         members and their settings   result.json         the summary
    center.safetensors   the center, a state_dict     checkpoints/        see deeprelax.replica.checkpoint
    schedule.json        what a population learned, see deeprelax.execution.learned
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

from deeprelax.config import RunConfig
from deeprelax.errors import CheckpointError, ConfigError
from deeprelax.reference import Reference
from deeprelax.replica.checkpoint import Checkpoint, newest, read_json, write_bytes, write_json

LOGS = {"evaluation": "metrics.jsonl", "telemetry": "telemetry.jsonl"}
_OTHER_LOG = "events.jsonl"
_SECRET = re.compile(r"(://)\S*@")  # user and password of a database's address
_FIRST_FILES = ("config.json", "environment.json", "trainable.json")
_AFTER_THE_LAST = ("replica", "ensemble")  # events that follow the last checkpoint; a resumed run has them again


class RunStore:
    """One run's folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @classmethod
    def create(cls, path: Path | None, config: RunConfig, root: Path) -> Self:
        """Make the folder of a new run: ``path``, or a fresh name under ``root``.

        Raises:
            ConfigError: ``path`` holds a run already, or cannot be written.
        """
        chosen = path or root / _fresh_name(config)
        if (chosen / "config.json").exists():
            raise ConfigError(
                f"Invalid run_dir={str(chosen)!r}: it holds a run. Use --resume {chosen}, or another folder."
            )
        store = cls(chosen.absolute())
        try:
            write_json(store.path / "environment.json", environment())
            write_json(store.path / "config.json", config.job())
        except OSError as error:
            raise ConfigError(
                f"Invalid run_dir={str(chosen)!r}: {error.strerror}. Must be a folder that can be written."
            ) from None
        return store

    def discard(self) -> None:
        """Remove what :meth:`create` wrote if the run has not begun; other files in the folder stay."""
        if any((self.path / name).exists() for name in (*LOGS.values(), self.checkpoints.name)):
            return
        for name in _FIRST_FILES:
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # the folder was there before and holds the user's files
            self.path.rmdir()

    @classmethod
    def reopen(cls, path: Path) -> tuple[Self, RunConfig, Checkpoint]:
        """Return the folder of a run to resume, its config and its newest checkpoint; log lines after it are dropped.

        Raises:
            CheckpointError: there is no run or no complete checkpoint.
        """
        if not (path / "config.json").is_file():
            raise CheckpointError(
                f"Cannot resume {str(path)!r}: it holds no run (no config.json). Give the run's folder."
            )
        store = cls(path.absolute())
        saved = newest(store.checkpoints)
        if saved is None:
            raise CheckpointError(f"Cannot resume {str(path)!r}: it has no complete checkpoint. Start the run again.")
        for name in (*LOGS.values(), _OTHER_LOG):
            _forget_after(store.path / name, saved.step)
        return store, RunConfig(**read_json(store.path / "config.json")), saved

    def log(self, event: Mapping[str, object]) -> None:
        """Append an event to the log of its kind."""
        with (self.path / LOGS.get(str(event["event"]), _OTHER_LOG)).open("a") as file:
            file.write(json.dumps(event) + "\n")

    def rows(self, event: str) -> list[dict[str, object]]:
        """Return the logged events of one kind, oldest first."""
        file = self.path / LOGS.get(event, _OTHER_LOG)
        if not file.exists():
            return []
        return [row for row in map(json.loads, file.read_text().splitlines()) if row["event"] == event]


def remember_code(store: RunStore, reference: Reference) -> None:
    """Write down which code was trained."""
    write_json(store.path / "trainable.json", {"path": reference.path, "source_hash": reference.source_hash})


def environment() -> dict[str, object]:
    """Return versions, machine and git commit of this process."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("deeprelax", "torch", "ray", "optuna", "numpy")},
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "command": [_SECRET.sub(r"\1…@", word) for word in sys.argv],
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _fresh_name(config: RunConfig) -> str:
    task = config.trainable.rpartition(":")[2]
    return f"{task}-{config.method}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"


def _forget_after(log: Path, step: int) -> None:
    if log.exists():
        lines = [(line, json.loads(line)) for line in log.read_text().splitlines(keepends=True)]
        kept = [line for line, row in lines if row.get("step", 0) <= step and row["event"] not in _AFTER_THE_LAST]
        write_bytes(log, "".join(kept).encode())
