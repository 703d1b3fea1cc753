"""Flatness as telemetry of a run, and of a finished run from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.unit.toyruns import train
from tests.unit.toytasks import EVERYTHING

from deeprelax import load_result
from deeprelax.cli import main
from deeprelax.coupling import Parle
from deeprelax.errors import ConfigError

NAMES = {
    "flat/loss", "flat/top_eigenvalue", "flat/hysteresis", "flat/acceptance", "flat/local_entropy",
    "flat/local_entropy_stderr", "flat/gradient_norm", "flat/gradient_norm_stderr", "flat/trace", "flat/trace_stderr",
}  # fmt: skip
COUPLING = Parle(replicas=2, period=5)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.startswith("flat/")}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "measured"
    train(folder, COUPLING, EVERYTHING, steps=24, evaluate_every=1.0, flatness="every")
    return folder


def test_a_run_that_is_measured_has_the_weights_of_one_that_is_not(measured: Path, tmp_path: Path) -> None:
    plain = train(tmp_path / "run", COUPLING, EVERYTHING, steps=24, evaluate_every=1.0)
    left, right = plain.state_dict(), load_result(measured).state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    for replica in ("replica-000", "replica-001", "exchange"):
        path = Path("checkpoints") / "step-00000024" / f"{replica}.safetensors"
        assert (plain.run_dir / path).read_bytes() == (measured / path).read_bytes()
    assert not flat(dict(plain.metrics))


def test_every_evaluation_is_measured_on_request(measured: Path) -> None:
    result = load_result(measured)
    rows = [flat(row) for row in result.history()]
    assert len(rows) == 2
    assert all(row.keys() == NAMES for row in rows)
    assert rows[0] != rows[1]
    assert flat(dict(result.metrics)) == rows[-1]
    assert flat(result.summary()) == rows[-1]


def test_only_the_last_evaluation_is_measured_otherwise(measured: Path, tmp_path: Path) -> None:
    result = train(tmp_path / "run", COUPLING, EVERYTHING, steps=24, evaluate_every=1.0, flatness="end")
    first, last = (flat(row) for row in result.history())
    assert not first
    assert last == flat(dict(load_result(measured).metrics))


def test_the_command_gives_a_finished_run_the_numbers_it_had(measured: Path) -> None:
    ran = CliRunner().invoke(main, ["flatness", str(measured), "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout) == flat(dict(load_result(measured).metrics))


def test_the_command_takes_its_options_and_shows_a_line_a_number(measured: Path) -> None:
    words = [
        "flatness",
        str(measured),
        "--gamma",
        "0.5",
        "--beta",
        "1e3",
        "--steps",
        "2",
        "--chains",
        "3",
        "--samples",
        "9",
    ]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 0, ran.output
    shown = {line.split()[0]: float(line.split()[1]) for line in ran.stdout.splitlines()}
    assert shown.keys() == NAMES
    assert shown["flat/loss"] != pytest.approx(load_result(measured).metrics["flat/loss"], rel=1e-3), "other samples"


@pytest.mark.parametrize(
    ("words", "said"),
    [(["no/such/run"], "Cannot read"), (["RUN", "--gamma", "-1"], "Invalid gamma=-1.0. Must be > 0 and finite.")],
)
def test_the_command_says_what_is_wrong(words: list[str], said: str, measured: Path) -> None:
    ran = CliRunner().invoke(main, ["flatness", *(str(measured) if word == "RUN" else word for word in words)])
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_a_time_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"flatness='sometimes'\. Must be 'never', 'end' or 'every'"):
        train(tmp_path / "run", COUPLING, flatness="sometimes")
