"""What a trial of a population has learned: the settings along the line of trials that its weights have come from.

The trial's run holds them already, as ``staged`` schedules; here they become a ``schedule.json`` like
that of a run whose replicas adapted, which ``deeprelax schedule`` prints as a command and draws.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deeprelax.config import RunConfig
from deeprelax.execution.learned import FILE, LearnedSchedule, Stage, Values, positions, shown
from deeprelax.replica.checkpoint import write_json
from deeprelax.schedules import Position, Schedule, write
from deeprelax.tuning.space import Scalar


@dataclass(frozen=True)
class Branch:
    """Where a run went on as another trial's.

    Args:
        step: mini-batch steps made by then; 0 for the trial that began.
        trial: whose run it was from there on.
        parameters: the levels it was trained with.
        clipped: they were held back, because what was drawn could not be trained.
    """

    step: int
    trial: int
    parameters: Mapping[str, Scalar]
    clipped: bool = False


def learned_lineage(
    lineage: Sequence[Branch], run: RunConfig, others: Mapping[int, RunConfig], searched: Collection[str]
) -> LearnedSchedule:
    """Return what a trial has learned.

    Args:
        lineage: of the trial, oldest first.
        run: that it is, resolved.
        others: runs of all trials of the population by number, its own among them; those that a picture can show
            beside it are shown.
        searched: fields whose levels could change.
    """
    schedules = _moving(run, searched)
    walk = shown(positions(run.make_coupling(), run))
    comparable = {number: other for number, other in sorted(others.items()) if _alike(other, run, schedules)}
    return LearnedSchedule(
        winner=lineage[-1].trial,
        lineage=tuple(_stage(branch, schedules, run.steps or 1) for branch in lineage),
        clipped=sum(branch.clipped for branch in lineage),
        tolerance=0.0,
        schedules={name: write(schedule) for name, schedule in schedules.items()},
        steps=[here.step for here in walk],
        exchanges=[here.exchanges for here in walk],
        replicas=[_values(_named(other, schedules), walk) for other in comparable.values()],
        applied=_values(schedules, walk),
        trials=tuple(comparable),
    )


def save_lineage(run: Path, learned: LearnedSchedule) -> None:
    """Write ``schedule.json`` into the folder of a run."""
    write_json(run / FILE, asdict(learned))


def _moving(run: RunConfig, searched: Collection[str]) -> dict[str, Schedule]:
    """Return the schedules that were searched, and those that changed with them."""
    return {
        name: schedule
        for name, schedule in run.make_coupling().schedules().items()
        if schedule.shape == "staged" or (name in searched and schedule.shape != "auto")
    }


def _named(run: RunConfig, names: Collection[str]) -> dict[str, Schedule]:
    schedules = run.make_coupling().schedules()
    return {name: schedules[name] for name in names}


def _alike(other: RunConfig, run: RunConfig, names: Collection[str]) -> bool:
    return other.steps == run.steps and set(names) <= other.make_coupling().schedules().keys()


def _stage(branch: Branch, schedules: Mapping[str, Schedule], steps: int) -> Stage:
    times = {
        name: _level(schedule, branch.step / steps) / _level(schedule, 0.0) for name, schedule in schedules.items()
    }
    return Stage(branch.step, branch.trial, times)


def _level(schedule: Schedule, fraction: float) -> float:
    """Return the largest value of the schedule that is followed at a part of the run."""
    if schedule.shape != "staged":
        return max(schedule.values)
    return max(next(stage for begin, stage in reversed(schedule.stages) if begin <= fraction).values)


def _values(schedules: Mapping[str, Schedule], walk: Sequence[Position]) -> Values:
    return {name: [schedule.at(here) for here in walk] for name, schedule in schedules.items()}
