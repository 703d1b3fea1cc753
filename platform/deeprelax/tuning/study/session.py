"""Several calls of Optuna's storage as one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session


class JoinedSession(Session):
    """A session whose transactions can be joined to one.

    Each call of Optuna's storage takes its thread's session, commits and closes it. Inside :meth:`as_one` a commit only
    sends what is to be written, and a close only forgets what was read, so that the next call reads anew, as it would
    in a transaction of its own. A call that Optuna refuses (:class:`~optuna.exceptions.UpdateFinishedTrialError`) has
    written nothing, so the others stand; after an error of the database all further calls fail, and nothing is stored.
    """

    is_joined = False

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Make the calls inside one transaction: all of them are stored, or none."""
        self.is_joined = True
        try:
            yield
            super().commit()
        except BaseException:
            super().rollback()
            raise
        finally:
            self.is_joined = False
            super().close()

    def commit(self) -> None:
        """Commit, or send what is to be written."""
        if self.is_joined:
            self.flush()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back; inside :meth:`as_one` that is done at its end."""
        if not self.is_joined:
            super().rollback()

    def close(self) -> None:
        """Close, or forget what was read."""
        if self.is_joined:
            self.expunge_all()
        else:
            super().close()
