"""``deeprelax dashboard``."""

from __future__ import annotations

from pathlib import Path

import click

from deeprelax.cli.root import main
from deeprelax.errors import ConfigError, DeepRelaxError


@main.command(context_settings={"show_default": True})
@click.option(
    "--study", metavar="URL", help="The sweeps' database.  [default: $DEEPRELAX_STUDY, or sqlite:///runs/studies.db]"
)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the runs.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; only this machine reaches the default.")
@click.option("--port", type=int, default=8899, help="Port to listen on; 0 takes a free one.")
@click.option("--token", envvar="DEEPRELAX_DASHBOARD_TOKEN", help="Token to read.  [default: drawn at random]")
@click.option("--write", is_flag=True, help="Also print a link whose token lets stop sweeps and fail trials.")
@click.option("--certificate", type=click.Path(path_type=Path), help="File of a TLS certificate.")
@click.option("--key", type=click.Path(path_type=Path), help="File of the certificate's key.")
def dashboard(
    study: str | None,
    runs: Path,
    host: str,
    port: int,
    token: str | None,
    write: bool,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Show sweeps and runs in a browser, live, while they run and afterwards.

    \b
    Examples:
      deeprelax dashboard
      deeprelax dashboard --study postgresql://user@host/studies --runs /shared/runs --write

    It prints a link with a token; without one every page is refused. Ctrl-C ends it; sweeps and runs do not notice.
    """
    try:
        from deeprelax.dashboard.access import Tokens
        from deeprelax.dashboard.serve import serve
    except ImportError as error:
        raise DeepRelaxError(f"The dashboard needs more packages ({error}). Install deeprelax[dashboard].") from None
    if (certificate is None) != (key is None):
        raise ConfigError("Invalid --certificate and --key. Must be given both, or neither.")
    pair = (certificate, key) if certificate is not None and key is not None else None
    serve(study, runs, host, port, Tokens.drawn(token, write=write), click.echo, certificate=pair)
