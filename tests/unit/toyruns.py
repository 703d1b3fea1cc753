"""Runs of the small task: whole ones, and the loop of a single replica."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.toytasks import TOY, ToyConfig, toy
from torch import Tensor

from deeprelax import fit
from deeprelax.coupling import Coupling
from deeprelax.execution.result import RunResult
from deeprelax.replica.loop import Event, Plan, Training


def train(run_dir: Path, coupling: Coupling, config: dict[str, Any] | None = None, **fields: Any) -> RunResult:
    settings: dict[str, Any] = {"steps": 20, "seed": 3} | fields
    return fit(TOY, coupling=coupling, config=config, local=True, run_dir=run_dir, show_progress=False, **settings)


def training(
    coupling: Coupling,
    folder: Path,
    *,
    index: int = 0,
    config: dict[str, Any] | None = None,
    events: list[Event] | None = None,
    steps: int = 20,
    **plan: Any,
) -> Training:
    task = toy(ToyConfig(**(config or {})))
    return Training(
        task,
        coupling,
        Plan(total_steps=steps, batch_size=8, seed=3, **plan),
        index=index,
        emit=(lambda _: None) if events is None else events.append,
        checkpoints=folder,
        center_state=dict,
    )


def point(one: Training) -> Tensor:
    return one.replica.weights[0].fast.clone()


def distance(one: RunResult, other: RunResult) -> float:
    left, right = one.state_dict(), other.state_dict()
    return max(float((left[name] - right[name]).abs().max()) for name in left)
