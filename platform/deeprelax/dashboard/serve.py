"""Serving the pages until Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from deeprelax.dashboard.access import Tokens
from deeprelax.dashboard.app import create_app
from deeprelax.dashboard.runs import Runs
from deeprelax.dashboard.sweeps import Sweeps
from deeprelax.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    study: str | None, runs: Path, host: str, port: int, tokens: Tokens, say: Callable[[str], None],
    *, certificate: tuple[Path, Path] | None = None,
) -> None:  # fmt: skip
    """Serve until Ctrl-C.

    Args:
        study: URL of the study's database.
        runs: folder of the runs.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        tokens: that open the pages.
        say: shows a line to the user.
        certificate: files of certificate and key, to be reached by TLS.

    Raises:
        ConfigError: the port is taken or the address is not of this machine.
        StudyError: the database cannot be used.
    """
    app = create_app(Sweeps(study), Runs(runs), tokens, secure=certificate is not None)
    listening = _listen(host, port)
    scheme = "http" if certificate is None else "https"
    address = f"{scheme}://{host}:{listening.getsockname()[1]}"
    say(f"{address}/?token={tokens.read}")
    if tokens.write is not None:
        say(f"{address}/?token={tokens.write}   to change something")
    if host not in LOOPBACK and certificate is None:
        say("Warning: without TLS, who listens on the network reads the token. Give --certificate and --key.")
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    if certificate is not None:
        config.ssl_certfile, config.ssl_keyfile = certificate
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise ConfigError(
            f"Invalid --host {host} --port {port}: {error.strerror}. Must be an address of this machine and a free "
            "port; --port 0 takes any."
        ) from None
    return made
