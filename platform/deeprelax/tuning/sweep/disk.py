"""A full disk: no trial's fault, one clear error, and no result lost."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeprelax.errors import DeepRelaxError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Return whether the error means that a disk, or the user's part of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def full_disk(folder: Path | str) -> str:
    """Return the message for a disk that is full."""
    return f"The disk of {folder} is full. Make room and start the sweep again; every result so far is in its study."


@contextmanager
def saying_full(folder: Path) -> Iterator[None]:
    """Turn the error of a full disk into one clear message.

    Args:
        folder: that is written to.

    Raises:
        DeepRelaxError: its disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        where = error.filename or folder
    else:
        return
    raise DeepRelaxError(full_disk(where))
