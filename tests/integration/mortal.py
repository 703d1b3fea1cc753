"""A trainable whose process is killed once: the first that builds it and is not the one that wrote the flag."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pydantic import BaseModel
from tests.unit.toytasks import ToyConfig, toy

from deeprelax.replica.task import Task

MORTAL = f"{__file__}:mortal"


class MortalConfig(BaseModel):
    """Where it stands which process may live."""

    flag: str


def mortal(config: MortalConfig) -> Task:
    """Kill the first process that is not the driver, once."""
    flag = Path(config.flag)
    if flag.exists() and flag.read_text() != str(os.getpid()):
        flag.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return toy(ToyConfig())


def flagged(folder: Path) -> Path:
    """Return a new flag that lets this process live."""
    flag = folder / "flag"
    flag.write_text(str(os.getpid()))
    return flag
