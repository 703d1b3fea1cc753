"""What a benchmark times must run at all."""

from __future__ import annotations

import subprocess
import sys

import pytest
from benchmarks.startup import COMMANDS


@pytest.mark.parametrize("name", [name for name in COMMANDS if "torch" not in name])
def test_a_timed_command_runs(name: str) -> None:
    assert subprocess.run([sys.executable, *COMMANDS[name]], capture_output=True, check=False).returncode == 0
