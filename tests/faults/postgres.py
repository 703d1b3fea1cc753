"""A private PostgreSQL server in a temporary folder, which can be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/lib/postgresql/15/bin"))
USER = "sweeper"
PASSWORD = "pa{ss}:w@rd/%41"
QUOTED = "pa{ss}%3Aw%40rd%2F%2541"
"""The password as a URL holds it; braces, colon, slash, at sign and percent sign each have broken something once."""

_START_S = 30.0


class Postgres:
    """A server on a free port of 127.0.0.1. Leave it as a context manager to end it and remove its folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="drpg"))
        self.port = _free_port()
        self._server: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root.
        self._account = _account() if os.geteuid() == 0 else None

    def __enter__(self) -> Self:
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        if self._account is not None:
            for path in (self.folder, secret):
                shutil.chown(path, self._account)
        data = str(self.folder / "data")
        options = ["-U", USER, "--pwfile", str(secret), "--auth=scram-sha-256", "--no-sync", "-E", "UTF8"]
        self._run([str(BIN / "initdb"), "-D", data, *options]).check_returncode()
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, password: str = QUOTED, database: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{port or self.port}/{database}"

    def make(self, database: str) -> str:
        """Make an empty database and return its URL."""
        command = [str(BIN / "createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, database]
        self._run(command, {"PGPASSWORD": PASSWORD}).check_returncode()
        return self.url(database=database)

    def start(self) -> None:
        """Start the server and wait until it answers; what a killed one has left may be in the way at first."""
        give_up = time.monotonic() + _START_S
        while not self._answers():
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            if self._server is None or self._server.poll() is not None:
                self._server = self._launch()
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server with SIGKILL; its other processes see that and go."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    str(BIN / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1",
                    "-k", str(self.folder), "-c", "fsync=off", "-c", "max_connections=60",
                ],
                stdout=log, stderr=log, cwd=self.folder, user=self._account, start_new_session=True,
            )  # fmt: skip

    def _answers(self) -> bool:
        ready = [str(BIN / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return self._server is not None and self._run(ready).returncode == 0

    def _run(
        self, command: list[str], variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        given = {**os.environ, **(variables or {})}
        return subprocess.run(
            command, user=self._account, cwd=self.folder, env=given, capture_output=True, check=False, timeout=60
        )


def _account() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
