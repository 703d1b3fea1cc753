"""Where a study lives: the URL of its database, whose password is shown to nobody."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from deeprelax.errors import StudyError

ENVIRONMENT = "DEEPRELAX_STUDY"
"""The environment variable with the URL to use where none is given; so the password stays off the command line."""

DEFAULT_FILE = Path("runs/studies.db")

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
}
_HIDDEN = "***"


class Address:
    """A database URL that never shows its password: not in ``str``, ``repr``, a pickle or an error.

    Args:
        url: ``sqlite:///path/file.db`` or ``postgresql://user:password@host:port/database``; ``None`` means the
            variable ``DEEPRELAX_STUDY``, or else the file ``runs/studies.db``. PostgreSQL also takes the password from
            ``PGPASSWORD`` and ``~/.pgpass``.

    Raises:
        StudyError: the URL is malformed or of another kind of database.
    """

    def __init__(self, url: str | None = None) -> None:
        parsed = _parsed(url or os.environ.get(ENVIRONMENT) or f"sqlite:///{DEFAULT_FILE}")
        if parsed is None:
            # Not even a piece of what was given is repeated: where the parts are wrong, any may be the password.
            raise StudyError(
                "Invalid study URL. Must be sqlite:///path/file.db or postgresql://user:password@host:5432/database, "
                "with special characters of the password written as %40 (@), %3A (:), %2F (/)."
            )
        if parsed.drivername not in _DRIVERS:
            raise StudyError(
                f"Invalid study URL of kind {parsed.drivername!r}. Must start with postgresql:// or sqlite:///."
            )
        self._url = parsed.set(drivername=_DRIVERS[parsed.drivername])
        if self.is_file:
            self._url = self._url.set(database=str(self.file.absolute()))

    @property
    def is_file(self) -> bool:
        """Whether the database is an SQLite file."""
        return self._url.drivername == "sqlite"

    @property
    def file(self) -> Path:
        """The SQLite file."""
        if self._url.database in {None, "", ":memory:"}:
            raise StudyError("Invalid study URL 'sqlite://'. Must name a file, such as sqlite:///runs/studies.db.")
        return Path(str(self._url.database))

    def secret(self) -> str:
        """Return the URL with its password, for the database driver only.

        Optuna fills the URL in as a format string, hence the doubled braces.
        """
        return self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")

    def scrub(self, text: str) -> str:
        """Return ``text`` without the password, should a driver's message contain it."""
        password = str(self._url.password or "")
        for form in {password, unquote(password)} - {""}:
            text = text.replace(form, _HIDDEN)
        return text

    def __str__(self) -> str:
        # Options after the question mark can hold a password too.
        return self._url.set(query={}).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __reduce__(self) -> str:
        raise StudyError("A study's address is never pickled, since it holds a password. Send the study's name.")


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        return None
