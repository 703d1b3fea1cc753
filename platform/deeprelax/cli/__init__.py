"""The command line. Heavy imports wait until a command runs, so that ``--help`` answers at once."""

from __future__ import annotations

from deeprelax.cli import catalog, dashboard, fit, flatness, plan, schedule, simulate, spaces, sweep, verify
from deeprelax.cli.root import main

__all__ = [
    "catalog", "dashboard", "fit", "flatness", "main", "plan", "schedule", "simulate", "spaces", "sweep", "verify"
]  # fmt: skip
