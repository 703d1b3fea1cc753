"""How long a fresh process takes to import the library and to print its help."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

from benchmarks.measure import Contenders, How, Row, compare

PYTHON = "python, empty"
COMMANDS = {
    PYTHON: ("-c", "pass"),
    "import deeprelax": ("-c", "import deeprelax"),
    "deeprelax --help": ("-m", "deeprelax", "--help"),
    "import torch, to compare": ("-c", "import torch"),
}
BARS_S = {"import deeprelax": 0.3, "deeprelax --help": 0.5}


def startup_rows(how: How) -> list[Row]:
    """Return whole processes from start to end, so an upper bound of the import itself."""
    once = replace(how, rounds=1, repeats=5, budget_s=30)
    return compare("start of a process", _contenders, PYTHON, once, bars_s=BARS_S)


def _contenders() -> Contenders:
    return {name: partial(_run, words) for name, words in COMMANDS.items()}


def _run(words: tuple[str, ...]) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
