"""The notice that a worker's machine is about to be taken back: SIGTERM, some seconds before the end.

Ray Train runs a replica's loop beside the main thread, and only the main thread may take a signal, so the main thread
remembers it and the replica looks. This does without torch: Ray Train's controller imports it.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

NOTICED = threading.Event()
"""Set once this process has been told to end."""


def listen() -> None:
    """Take the first SIGTERM as a notice and the next one as the end; called in the main thread."""
    signal.signal(signal.SIGTERM, _take)


def _take(number: int, _: FrameType | None) -> None:
    NOTICED.set()
    signal.signal(number, signal.SIG_DFL)
