"""Every error a user can meet.

One root, :class:`DeepRelaxError`. Each class survives a pickle round trip (errors cross Ray actors), and its message
says what was given, what is required, and how to fix it. The command line prints the message and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DeepRelaxError(Exception):
    """Root of all errors raised on purpose by deeprelax."""


class ConfigError(DeepRelaxError, ValueError):
    """A value given by the user is unknown, malformed or out of range."""


class UnstableError(ConfigError):
    """A spring or a step is larger than its stability bound; ``--force`` (``force=True``) overrides."""


class DataError(DeepRelaxError):
    """The data of a trainable is missing or damaged."""


class CheckpointError(DeepRelaxError):
    """A checkpoint is missing, damaged or belongs to another run."""


class AdmissionError(DeepRelaxError):
    """The run does not fit the cluster."""


class DivergedError(DeepRelaxError):
    """The loss or the weights stopped being finite."""


class StrayedError(DivergedError):
    """The loss of one replica stopped being finite; where the others go on, it starts again from the center."""


class ExchangeError(DeepRelaxError):
    """An exchange could not be completed."""


class StartAgainError(ExchangeError):
    """A replica must start again, as a newcomer or from the newest checkpoint; the run goes on."""


class StudyError(DeepRelaxError):
    """A study is unknown, is another than expected, or its database cannot be used."""


class LeaseError(StudyError):
    """A trial was given back to the queue because its driver was silent for too long; its late result is refused."""


class InjectedError(DeepRelaxError):
    """A fault that a test asked for; see :mod:`deeprelax.testing`."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'gamma'?"`` for the known name closest to ``name``, or ``""`` if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
