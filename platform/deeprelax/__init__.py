"""deeprelax: train neural networks as coupled replicas that exchange only the mean of their weights.

Names load on first use, so that ``import deeprelax`` stays fast and needs neither torch nor Ray.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deeprelax.api import fit, resume
    from deeprelax.coupled import Coupled
    from deeprelax.execution.result import RunResult, load_result
    from deeprelax.planning.plan import Plan, plan
    from deeprelax.registry import trainable
    from deeprelax.replica.task import Task, TensorData
    from deeprelax.simulation.simulate import Simulation, simulate
    from deeprelax.tuning.sweep.front import resume_sweep, sweep
    from deeprelax.tuning.sweep.result import SweepResult

_HOMES = {
    "Coupled": "coupled",
    "Plan": "planning.plan",
    "RunResult": "execution.result",
    "Simulation": "simulation.simulate",
    "SweepResult": "tuning.sweep.result",
    "Task": "replica.task",
    "TensorData": "replica.task",
    "fit": "api",
    "load_result": "execution.result",
    "plan": "planning.plan",
    "resume": "api",
    "resume_sweep": "tuning.sweep.front",
    "simulate": "simulation.simulate",
    "sweep": "tuning.sweep.front",
    "trainable": "registry",
}

__all__ = [
    "Coupled",
    "Plan",
    "RunResult",
    "Simulation",
    "SweepResult",
    "Task",
    "TensorData",
    "fit",
    "load_result",
    "plan",
    "resume",
    "resume_sweep",
    "simulate",
    "sweep",
    "trainable",
]
__version__ = version("deeprelax")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'deeprelax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"deeprelax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
