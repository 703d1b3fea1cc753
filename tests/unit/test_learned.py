"""What a population learned: the file, the picture, and that the printed command trains with it."""

from __future__ import annotations

import json
import math
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.toyruns import train

from deeprelax.cli import main
from deeprelax.coupling import LocalSgd, Parle
from deeprelax.execution.learned import FLOOR, TOLERANCE, learned_schedule, load_learned, pieces
from deeprelax.execution.result import RunResult
from deeprelax.execution.store import RunStore
from deeprelax.schedules import Position, parse, write

KNOBS = ("lr", "gamma", "rho")
STEPS, PERIOD = 90, 6


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return a run whose replicas adapted all three knobs."""
    coupling = Parle(replicas=3, period=PERIOD, lr="cos(0.1,0)", gamma="exp(100,1)", momentum=0.8, nesterov=False)
    population = {"knobs": KNOBS, "every": 2, "spread": 1.5}
    folder = tmp_path_factory.mktemp("adapted") / "a run"
    return train(folder, coupling, {"dropout": 0.1}, steps=STEPS, batch_size=4, population=population)


def test_replicas_in_one_call_decide_as_one_by_one(adapted: RunResult, tmp_path: Path) -> None:
    config = adapted.config
    population = config.population
    assert population is not None
    stacked = train(
        tmp_path / "run",
        config.make_coupling(),
        {"dropout": 0.1},
        steps=STEPS,
        batch_size=4,
        population=population.model_dump(),
        vectorize="always",
    )
    one_by_one, at_once = (
        sorted(
            (row["step"], row["replica"], row["source"], str(row["times"])) for row in RunStore(folder).rows("adapted")
        )
        for folder in (adapted.run_dir, stacked.run_dir)
    )
    assert len(one_by_one) > 3
    assert at_once == one_by_one


def near(value: float, other: float, largest: float) -> bool:
    return abs(value - other) <= TOLERANCE * max(value, FLOOR * largest)


def test_the_file_has_what_each_replica_applied(adapted: RunResult) -> None:
    learned = load_learned(adapted.run_dir)
    assert learned.steps == list(range(0, STEPS, PERIOD))
    assert learned.exchanges == list(range(len(learned.steps)))
    checked = 0
    for row in adapted.telemetry():
        step, replica = int(str(row["step"])), int(str(row["replica"]))
        if step < STEPS:
            i = learned.steps.index(step)
            assert {knob: learned.replicas[replica][knob][i] for knob in KNOBS} == {
                knob: row[f"coupling/{knob}"] for knob in KNOBS
            }
            checked += 1
    assert checked >= 9


def test_the_lineage_leads_back_from_the_winner_to_a_start(adapted: RunResult) -> None:
    learned = load_learned(adapted.run_dir)
    rows: dict[tuple[int, int], dict[str, Any]] = {
        (row["step"], row["replica"]): row  # type: ignore[misc]
        for row in RunStore(adapted.run_dir).rows("adapted")
    }
    last = max(step for step, _ in rows)
    winner = min(range(3), key=lambda a: float(rows[last, a]["loss"]))
    assert learned.winner == winner == learned.lineage[-1].replica
    assert [stage.step for stage in learned.lineage] == list(range(0, last + 1, 2 * PERIOD))
    for before, stage in pairwise(learned.lineage):
        row = rows[stage.step, stage.replica]
        assert row["times"] == stage.times
        assert row["source"] == before.replica
    for i, step in enumerate(learned.steps):
        holder = [stage.replica for stage in learned.lineage if stage.step <= step][-1]
        assert {knob: learned.applied[knob][i] for knob in KNOBS} == {
            knob: learned.replicas[holder][knob][i] for knob in KNOBS
        }


def test_the_order_in_which_replicas_report_does_not_matter(adapted: RunResult) -> None:
    rows = RunStore(adapted.run_dir).rows("adapted")
    orders = [sorted(rows, key=lambda row: (row["step"], sign * int(str(row["replica"])))) for sign in (1, -1)]
    assert orders[0] != orders[1]
    learned = load_learned(adapted.run_dir)
    assert [learned_schedule(order, adapted.config) for order in orders] == [learned, learned]


def test_the_printed_command_trains_with_the_applied_values(adapted: RunResult, tmp_path: Path) -> None:
    printed = run("schedule", str(adapted.run_dir))
    assert printed.exit_code == 0, printed.output
    words = shlex.split(printed.stdout)
    assert words[:2] == ["deeprelax", "fit"]
    again = run(*words[1:], "--run-dir", str(tmp_path / "again"), "--json")
    assert again.exit_code == 0, again.output

    learned = load_learned(adapted.run_dir)
    replayed = RunResult(run_dir=tmp_path / "again", config=adapted.config, metrics={}, cost={})
    checked = 0
    for row in replayed.telemetry():
        step = int(str(row["step"]))
        if step < STEPS:
            for knob, values in learned.applied.items():
                applied = values[learned.steps.index(step)]
                assert near(applied, float(str(row[f"coupling/{knob}"])), max(values))
                checked += 1
    assert checked >= 3 * 9
    config, before = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "again", adapted.run_dir))
    assert config["population"] is None
    assert config["coupling"] == before["coupling"] | learned.schedules
    assert {k: v for k, v in config.items() if k not in {"coupling", "population"}} == {
        k: v for k, v in before.items() if k not in {"coupling", "population"}
    }


def test_as_json_the_command_is_beside_the_file(adapted: RunResult) -> None:
    printed = json.loads(run("schedule", str(adapted.run_dir), "--json").stdout)
    command = printed.pop("command")
    assert command.startswith("deeprelax fit tests.unit.toytasks:toy --coupling parle")
    assert printed == json.loads((adapted.run_dir / "schedule.json").read_text())


def test_fit_says_how_to_see_what_was_learned(tmp_path: Path) -> None:
    words = ("--local", "--steps", "60", "--set", "period=5", "--run-dir", str(tmp_path / "run"))
    ran = run("fit", "tests.unit.toytasks:toy", *words, "--adapt", "lr,rho,every=3,spread=1.5")
    assert ran.exit_code == 0, ran.output
    assert f"deeprelax schedule {tmp_path / 'run'}" in ran.stdout
    assert json.loads((tmp_path / "run" / "config.json").read_text())["population"] == {
        "knobs": ["lr", "rho"],
        "every": 3,
        "spread": 1.5,
        "exploited": 0.25,
        "perturbation": 1.2,
        "judge": "training",
    }


def test_a_run_too_long_for_every_exchange_shows_evenly_spaced_ones(tmp_path: Path) -> None:
    result = train(tmp_path / "run", LocalSgd(replicas=2, period=10), steps=60, population={"every": 1})
    long = result.config.with_fields(steps=3000, epochs=250, coupling={"replicas": 2, "period": 1, "lr": 0.1})
    learned = learned_schedule(RunStore(result.run_dir).rows("adapted"), long)
    assert learned.steps == list(range(0, 3000, 3))


# The picture.


def test_the_picture_has_a_panel_for_each_knob(adapted: RunResult, tmp_path: Path) -> None:
    ran = run("schedule", str(adapted.run_dir), "--plots", str(tmp_path / "pictures"))
    assert ran.exit_code == 0, ran.output
    picture = tmp_path / "pictures" / "schedule.svg"
    assert "<dc:date>" not in picture.read_text()
    groups = [element.get("id") or "" for element in ElementTree.parse(picture).iter()]
    assert [name for name in groups if name.startswith("axes_")] == ["axes_1", "axes_2", "axes_3"]


def test_without_matplotlib_the_picture_is_refused(adapted: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = run("schedule", str(adapted.run_dir), "--plots", "pictures")
    assert ran.exit_code == 2
    assert "pip install 'deeprelax[plots]'" in ran.stderr


def test_a_run_without_a_population_has_no_schedule(tmp_path: Path) -> None:
    train(tmp_path / "run", LocalSgd(replicas=2, period=5))
    for folder in ("run", "nowhere"):
        ran = run("schedule", str(tmp_path / folder))
        assert ran.exit_code == 2
        assert "Give the folder of a run with a population (fit --adapt)" in ran.stderr


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    for text in ("{}", '{"lineage": [], "winners": 1}', "nothing"):
        (tmp_path / "schedule.json").write_text(text)
        ran = run("schedule", str(tmp_path))
        assert ran.exit_code == 2
        assert "Cannot read" in ran.stderr


# Few pieces within the tolerance.


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e9), st.just(math.inf)), min_size=1, max_size=60))
def test_pieces_are_within_the_tolerance_at_every_step(values: list[float]) -> None:
    schedule = parse(write(pieces(values)))
    largest = max((value for value in values if value < math.inf), default=0.0)
    for step, value in enumerate(values):
        got = schedule.at(Position(step=step))
        assert got == value or near(value, got, largest)


def test_pieces_are_few() -> None:
    assert len(pieces([0.1] * 1000).points) == 1
    assert len(pieces([0.1] * 500 + [0.05] * 500).points) == 2
    falling = [100 * 0.01 ** (step / 1000) for step in range(1000)]
    assert len(pieces(falling).points) == math.ceil(math.log(100) / math.log(1.1 / 0.9))
