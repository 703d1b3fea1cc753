"""Runs as files: which there are under a folder, and what one of them holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeprelax.config import RunConfig
from deeprelax.dashboard.logs import Row, read_rows
from deeprelax.errors import ConfigError

POINTS = 1500
"""Points of a curve; more than a screen has are not sent to it."""

DEEPEST = 6
"""Folders below the root in which runs are looked for: sweeps/NAME/trials/NUMBER/seed-SEED/ is the deepest."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run in a list.

    Args:
        path: below the root.
        changed: seconds since the epoch at which it last said something.
        config: resolved.
        result: its summary; empty while it has not ended.
    """

    path: str
    changed: float
    config: Mapping[str, object]
    result: Mapping[str, object]

    @property
    def state(self) -> str:
        """Return ``finished``, ``stopped`` or ``unfinished`` (it trains, or was killed)."""
        if not self.result:
            return "unfinished"
        return "stopped" if self.result.get("stopped") else "finished"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run's files hold, thinned out to :data:`POINTS`.

    Args:
        summary: of the run.
        evaluations: of the center, oldest first.
        telemetry: of each replica at each exchange, oldest first.
        events: of the members.
        environment: versions and machine.
    """

    summary: RunSummary
    evaluations: Sequence[Row]
    telemetry: Sequence[Row]
    events: Sequence[Row]
    environment: Mapping[str, object]

    @property
    def replicas(self) -> list[int]:
        """Return the replicas that have said something."""
        return sorted({int(str(row["replica"])) for row in self.telemetry})


class Runs:
    """The runs under a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def newest(self, most: int = 200) -> list[RunSummary]:
        """Return the runs that changed last, newest first; those of sweeps' trials are left out."""
        found = [self._summary(path) for path in _folders(self.root, DEEPEST) if "trials" not in path.parts]
        return sorted(found, key=lambda run: -run.changed)[:most]

    def read(self, path: str) -> Run:
        """Return a run.

        Raises:
            ConfigError: there is no run at ``path``, or it is outside of the root.
        """
        folder = self.folder(path)
        summary = self._summary(folder)
        coupling = summary.config.get("coupling")
        replicas = coupling.get("replicas", 1) if isinstance(coupling, Mapping) else 1
        return Run(
            summary=summary,
            evaluations=read_rows(folder / "metrics.jsonl", POINTS),
            telemetry=read_rows(folder / "telemetry.jsonl", POINTS * replicas, replicas),
            events=read_rows(folder / "events.jsonl", POINTS),
            environment=_read(folder / "environment.json"),
        )

    def folder(self, path: str) -> Path:
        """Return the folder of a run.

        Raises:
            ConfigError: as :meth:`read`.
        """
        folder = (self.root / path).resolve()
        if not folder.is_relative_to(self.root) or not (folder / "config.json").is_file():
            raise ConfigError(f"Unknown run {path!r}. Must be a folder of a run below {self.root}.")
        return folder

    def of_trial(self, sweep: str, number: int) -> list[str]:
        """Return the paths of a trial's runs that are below the root, one a seed."""
        trial = self.root / "sweeps" / sweep / "trials" / f"{number:05d}"
        return [str(path.relative_to(self.root)) for path in sorted(trial.glob("seed-*")) if path.is_dir()]

    def configs(self, sweep: str, numbers: Sequence[int]) -> list[RunConfig]:
        """Return the resolved runs of trials, a seed each; those that are not below the root are left out."""
        paths = [found[0] for number in numbers if (found := self.of_trial(sweep, number))]
        read = [_read(self.root / path / "config.json") for path in paths]
        return [RunConfig(**config) for config in read if config.get("steps")]

    def fingerprint(self, path: str) -> str:
        """Return what changes when the run's files do."""
        folder = self.folder(path)
        names = ("metrics.jsonl", "telemetry.jsonl", "events.jsonl", "result.json")
        return " ".join(str(stat.st_size) if (stat := _stat(folder / name)) else "-" for name in names)

    def _summary(self, folder: Path) -> RunSummary:
        files = (folder / name for name in ("result.json", "metrics.jsonl", "telemetry.jsonl", "config.json"))
        return RunSummary(
            path=str(folder.relative_to(self.root)),
            changed=max((stat.st_mtime for file in files if (stat := _stat(file))), default=0.0),
            config=_read(folder / "config.json"),
            result=_read(folder / "result.json"),
        )


def _folders(root: Path, deepest: int) -> Iterator[Path]:
    """Yield the folders of runs; nothing is looked for inside of one."""
    try:
        entries = list(os.scandir(root))
    except OSError:
        return
    if any(entry.name == "config.json" for entry in entries):
        yield root
    elif deepest:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _folders(Path(entry.path), deepest - 1)


def _read(file: Path) -> Mapping[str, object]:
    try:
        found: Mapping[str, object] = json.loads(file.read_bytes())
    except (OSError, ValueError):  # not there, or being written
        return {}
    return found


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
