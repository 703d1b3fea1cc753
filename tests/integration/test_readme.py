"""What the README shows runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(marker: str) -> str:
    found: list[str] = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if marker in code]
    assert len(found) == 1, marker
    return found[0]


def test_the_first_own_trainable_runs_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "moons.py").write_text(block("# moons.py"))
    command = [sys.executable, "-m", "deeprelax", "fit", "moons.py:moons", "--epochs", "5", "--local", "--json"]

    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert json.loads(finished.stdout)["center/error"] < 0.2


def test_the_first_own_trainable_is_at_most_20_lines() -> None:
    code = [line for line in block("# moons.py").splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 20


@pytest.mark.parametrize("command", ["fit", "sweep"])
def test_every_command_names_options_that_exist(command: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "deeprelax", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for code in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in code.splitlines()]
    own = "\n".join(line for line in lines if line.startswith(f"deeprelax {command} "))
    used = set(re.findall(r"(?<=\s)--[a-z-]+", own))
    assert used, f"the README shows {command}"
    assert all(option in shown for option in used)
