"""What a population learned about its schedules, as a file and as schedules to train with again.

The *lineage* of the winner is what a population learns: its settings, before those the settings of the replica that it
took them from, and so on back to the start. Settings alone travel along it: the weights of all replicas made the
center.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import cast

from deeprelax.config import RunConfig
from deeprelax.coupling.base import Coupling
from deeprelax.errors import CheckpointError
from deeprelax.execution.store import RunStore
from deeprelax.replica.checkpoint import read_json, write_json
from deeprelax.schedules import Position, Schedule, write

FILE = "schedule.json"
TOLERANCE = 0.1
"""How far the schedule written for a replay may be from the applied value, relative to it, at every step."""
FLOOR = 0.01
"""Values below this part of the largest count as that part: a rate on its way to 0 would need points without end."""
_MOST_ROWS = 1000

Times = Mapping[str, float]
Row = Mapping[str, object]
Values = dict[str, list[float]]


@dataclass(frozen=True)
class Stage:
    """Settings that held from one step on.

    Args:
        step: mini-batch steps made when they began.
        replica: who held them.
        times: the multipliers of the run's schedules.
    """

    step: int
    replica: int
    times: Times


@dataclass(frozen=True, kw_only=True)
class LearnedSchedule:
    """The contents of ``schedule.json``.

    Args:
        winner: the replica of the smallest loss at the last decision.
        lineage: of its settings, oldest first.
        clipped: how often settings were held back by a spring's stability bound.
        tolerance: see :data:`TOLERANCE`.
        schedules: the lineage as text, ready for ``--set``.
        steps: where the values below are: the start and every exchange but the last; at most 1000, evenly spaced.
        exchanges: completed there.
        replicas: what each replica applied from there on, by knob.
        applied: what the lineage applied.
        trials: for a population of trials (``sweep --scheduler pbt``), where the lineage leads through trials and their
            weights travelled along: the numbers of the trials that ``replicas`` shows, and ``winner`` and ``lineage``
            name. Empty for the replicas of one run.
    """

    winner: int
    lineage: tuple[Stage, ...]
    clipped: int
    tolerance: float
    schedules: dict[str, str]
    steps: list[int]
    exchanges: list[int]
    replicas: list[Values]
    applied: Values
    trials: tuple[int, ...] = ()


def save_learned(store: RunStore, config: RunConfig) -> None:
    """Write ``schedule.json`` of a run with a population, from the decisions in its log."""
    write_json(store.path / FILE, asdict(learned_schedule(store.rows("adapted"), config)))


def load_learned(run_dir: Path) -> LearnedSchedule:
    """Return what the run learned.

    Raises:
        CheckpointError: there is no ``schedule.json``.
    """
    if not (run_dir / FILE).is_file():
        raise CheckpointError(
            f"Cannot read {run_dir / FILE}: it is not there. Give the folder of a run with a population (fit --adapt)"
            " or of a trial of one (sweep --scheduler pbt)."
        )
    fields = read_json(run_dir / FILE)
    try:
        stages = tuple(Stage(**stage) for stage in cast("list[dict[str, object]]", fields.pop("lineage")))  # type: ignore[arg-type]
        trials = tuple(cast("list[int]", fields.pop("trials", [])))
        return LearnedSchedule(lineage=stages, trials=trials, **fields)  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"Cannot read {run_dir / FILE}: {error}. It is damaged.") from None


def learned_schedule(rows: Sequence[Row], config: RunConfig) -> LearnedSchedule:
    """Return what the replicas of a run learned.

    Args:
        rows: its ``adapted`` rows.
        config: resolved, with a population.
    """
    assert config.population is not None, "only a population learns"
    coupling, knobs = config.make_coupling(), config.population.knobs
    unadapted = Stage(0, 0, dict.fromkeys(knobs, 1.0))
    winner = _winner(rows)
    lineage = [unadapted, *_lineage(rows, winner)]
    walk = shown(positions(coupling, config))
    applied = _values(coupling, lineage, positions(coupling, config))
    return LearnedSchedule(
        winner=winner,
        lineage=tuple(lineage[1:]),
        clipped=sum(bool(row["clipped"]) for row in rows),
        tolerance=TOLERANCE,
        schedules={knob: write(pieces(values)) for knob, values in applied.items()},
        steps=[position.step for position in walk],
        exchanges=[position.exchanges for position in walk],
        replicas=[
            _values(coupling, [unadapted, *(_stage(row) for row in rows if row["replica"] == replica)], walk)
            for replica in range(coupling.replicas)
        ],
        applied=_values(coupling, lineage, walk),
    )


def positions(coupling: Coupling, config: RunConfig) -> Iterator[Position]:
    """Yield where a resolved run is before each of its steps."""
    steps = config.steps or 0
    position = Position(steps_per_pass=round(steps / config.epochs), total_steps=steps)
    elapsed = exchanges = 0
    for step in range(steps):
        position = replace(position, step=step, exchanges=exchanges)
        yield position
        elapsed += 1
        if elapsed >= round(coupling.period.at(position)):
            elapsed, exchanges = 0, exchanges + 1


def shown(walk: Iterable[Position]) -> list[Position]:
    """Return the start and the points right after an exchange, evenly thinned."""
    after = [next(group) for _, group in groupby(walk, key=lambda here: here.exchanges)]
    return after[:: -(-len(after) // _MOST_ROWS)]


def pieces(values: Sequence[float], tolerance: float = TOLERANCE, floor: float = FLOOR) -> Schedule:
    """Return the piecewise constant schedule of few points that follows the values of all steps within the tolerance.

    Each point is held as long as one value is near enough to all it stands for: no schedule of constant pieces within
    the tolerance has fewer.

    Args:
        values: one a step, >= 0.
        tolerance: largest distance, as a part of the value.
        floor: as a part of the largest finite value; smaller values are treated as this one.
    """
    least = floor * max((value for value in values if value < math.inf), default=0.0)
    points: list[tuple[float, float]] = []
    begin, low, high = 0, 0.0, math.inf
    for step, value in enumerate(values):
        room = tolerance * max(value, least) if value < math.inf else 0.0
        lower, upper = max(low, value - room), min(high, value + room)
        if lower > upper:
            points.append((begin, _between(low, high)))
            begin, lower, upper = step, max(0.0, value - room), value + room
        low, high = lower, upper
    points.append((begin, _between(low, high)))
    return Schedule(shape="piecewise", points=tuple(points), unit="steps")


def _between(low: float, high: float) -> float:
    """Return a number in [low, high] that is short to write."""
    middle = high if high == math.inf else (low + high) / 2
    short = (float(f"{middle:.{digits}g}") for digits in range(3, 17))
    return next((number for number in short if low <= number <= high), middle)


def _winner(rows: Iterable[Row]) -> int:
    """Return the replica of the smallest loss at the last decision; the first if there was none."""
    judged = [row for row in rows if row["loss"] is not None]
    if not judged:
        return 0
    last = max(cast("int", row["exchanges"]) for row in judged)
    ranked = [(cast("float", row["loss"]), cast("int", row["replica"])) for row in judged if row["exchanges"] == last]
    return min(ranked)[1]


def _lineage(rows: Sequence[Row], replica: int) -> list[Stage]:
    """Return the stages that led to the settings a replica ended with, oldest first."""
    stages: list[Stage] = []
    before = math.inf
    for row in sorted(rows, key=lambda one: cast("int", one["step"]), reverse=True):
        stage = _stage(row)
        if stage.replica == replica and stage.step < before:
            stages.append(stage)
            replica, before = cast("int", row["source"]), stage.step
    return stages[::-1]


def _stage(row: Row) -> Stage:
    return Stage(cast("int", row["step"]), cast("int", row["replica"]), cast("Times", row["times"]))


def _values(coupling: Coupling, stages: Sequence[Stage], walk: Iterable[Position]) -> Values:
    """Return what the schedules gave at each point under the settings that held there; a later stage replaces one."""
    base = coupling.schedules()
    values: Values = {knob: [] for knob in stages[0].times}
    following = 0
    scaled: dict[str, Schedule] = {}
    for position in walk:
        while following < len(stages) and stages[following].step <= position.step:
            scaled = {knob: base[knob].scaled(times) for knob, times in stages[following].times.items()}
            following += 1
        for knob, schedule in scaled.items():
            values[knob].append(schedule.at(position))
    return values
