"""Patience with a database that is away: wait longer and longer, then say in one line what is wrong."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from deeprelax.errors import StudyError
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.problems import explain, is_final, origin

PATIENCE_S = 600.0
"""Seconds a driver waits for its database before it gives a result up."""

OPENING_S = 10.0
"""Seconds to wait while a study is opened: enough for drivers that create the tables at the same time."""

LONGEST_PAUSE_S = 5.0

_Result = TypeVar("_Result")


class Link:
    """Calls operations on one database until they succeed or patience ends.

    Args:
        address: of the database.
        patience_s: seconds to keep trying, unless :meth:`patience` says otherwise.
    """

    def __init__(self, address: Address, patience_s: float = PATIENCE_S) -> None:
        self.address = address
        self.is_away = False
        self._patience_s = patience_s
        self._own = threading.local()

    @contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Wait ``seconds`` instead, in this thread and block."""
        before = getattr(self._own, "patience_s", None)
        self._own.patience_s = seconds
        try:
            yield
        finally:
            self._own.patience_s = before

    def call(self, operation: Callable[[], _Result]) -> _Result:
        """Return what ``operation`` returns.

        Raises:
            StudyError: the database could not be used. It has no cause and no context: a driver's own error may hold
                the password.
        """
        own = getattr(self._own, "patience_s", None)
        patience_s = self._patience_s if own is None else own
        give_up, pause_s = time.monotonic() + patience_s, 0.05
        while True:
            try:
                result = operation()
            except (StorageInternalError, SQLAlchemyError) as error:
                reason = origin(error)
            else:
                self.is_away = False
                return result
            self.is_away = not is_final(reason)
            if is_final(reason) or time.monotonic() >= give_up:
                raise StudyError(explain(reason, self.address))
            # Spread out, or all drivers of a study come back at the same moment.
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
