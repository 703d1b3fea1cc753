"""What a database driver's error means, in one line without the password."""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError

from deeprelax.tuning.study.address import Address

# Part of the driver's words, whether waiting is useless, what it means and what to do. The first match counts.
_KNOWN: tuple[tuple[str, bool, str], ...] = (
    (
        r"password authentication failed|no password supplied|no pg_hba\.conf entry",
        True,
        "user or password is wrong. Give them in the URL, in PGPASSWORD or in ~/.pgpass",
    ),
    (r'database ".*" does not exist', True, "the database does not exist. Create it: createdb NAME"),
    (r'role ".*" does not exist', True, "the user does not exist. Create it: createuser NAME"),
    (r"permission denied", True, "the user may not create or change tables. Grant it, or use another database"),
    (
        r"refused|timeout|timed out|resolve host|translate host|No route|unreachable|No such file or directory",
        False,
        "nothing answers there. Start the database, or correct host and port",
    ),
    (r"file is not a database|malformed", True, "the file is no SQLite database, or damaged. Give another file"),
    (
        r"unable to open database file|readonly|read-only",
        True,
        "the file cannot be written. Give another file, or change its permissions",
    ),
    (r"is full|No space left", False, "the disk is full. Make room; every result stored so far is safe"),
    (r"database is locked", False, "another process holds the file. Use PostgreSQL for many drivers"),
)


def origin(error: BaseException) -> str:
    """Return the words of the database driver, which are at the start of a chain of errors."""
    seen: BaseException = error
    while True:
        inner = seen.orig if isinstance(seen, DBAPIError) else seen.__cause__
        if inner is None or inner is seen:
            return str(seen) or type(seen).__name__
        seen = inner


def is_final(reason: str) -> bool:
    """Return whether waiting cannot help."""
    return next((final for words, final, _ in _KNOWN if re.search(words, reason)), False)


def explain(reason: str, address: Address) -> str:
    """Return the error's line for what the driver said."""
    meaning = next((text for words, _, text in _KNOWN if re.search(words, reason)), None)
    if meaning is None:
        first = reason.strip().partition("\n")[0]
        return f"Cannot use the study database {address}: {address.scrub(first)}"
    return f"Cannot use the study database {address}: {meaning}."


MISSING_DRIVER = (
    "PostgreSQL needs psycopg 3, which is not installed. Install it: pip install 'deeprelax[tune]', "
    "or use an SQLite file: sqlite:///runs/studies.db."
)
