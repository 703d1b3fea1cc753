"""``deeprelax sweep``: what it refuses before anything starts, and what the message says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import ray
from click.testing import CliRunner, Result
from tests.unit.tuning.sweeps import SECRET, agreed, study_url, sweeping, toy_space

from deeprelax.cli import main
from deeprelax.errors import ConfigError
from deeprelax.tuning.sweep.config import SweepConfig

HERE = Path(__file__).parent
TOYS = f"{HERE}/sweeps.py:toy_space"


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["sweep", *words])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPRELAX_STUDY", study_url(tmp_path))
    return tmp_path


class Bad(NamedTuple):
    """Words that must fail, and what the message must say."""

    words: Sequence[str]
    says: Sequence[str]


def digits(*words: str) -> list[str]:
    return ["digits", "--space", TOYS, "-o", "model=mlp", *words]


BAD = {
    "no trainable": Bad(["--space", TOYS], ["Missing TRAINABLE", "trainables list"]),
    "no space": Bad(["digits"], ["Missing --space", "spaces list"]),
    "unknown trainable": Bad(["digit", "--space", TOYS], ["Unknown trainable 'digit'", "Did you mean 'digits'?"]),
    "unknown space": Bad(["digits", "--space", "nowhere"], ["Unknown space 'nowhere'", "path/file.py:function"]),
    "empty space": Bad(["digits", "--space", f"{HERE}/sweeps.py:still_space"], ["'still'", "nothing varies"]),
    "contradictory space": Bad(
        ["digits", "--space", f"{HERE}/sweeps.py:stiff_space"], ["none can be trained", "Widen the space", "gamma"]
    ),
    "unknown objective": Bad(digits("--minimize", "center/eror"), ["'center/eror'", "Did you mean 'center/error'?"]),
    "unknown metric of the task": Bad(digits("--maximize", "center/accuracy"), ["center/accuracy", "center/loss"]),
    "objective twice": Bad(digits("--minimize", "seconds", "--maximize", "seconds"), ["each once"]),
    "unknown sampler": Bad(digits("--sampler", "tp"), ["Unknown sampler 'tp'", "Did you mean 'tpe'?"]),
    "unknown scheduler": Bad(digits("--scheduler", "ashe"), ["scheduler='ashe'", "Did you mean 'asha'?", "median"]),
    "scheduler of two objectives": Bad(
        digits("--scheduler", "asha", "--minimize", "center/error", "--minimize", "seconds"),
        ["scheduler='asha'", "center/error, seconds", "Must be none"],
    ),
    "cmaes with two objectives": Bad(
        digits("--sampler", "cmaes", "--minimize", "center/error", "--minimize", "seconds"), ["cmaes", "nsga2"]
    ),
    "Tune's PB2": Bad(digits("--scheduler", "pb2"), ["Invalid scheduler='pb2'", "Use pbt"]),
    "population of one": Bad(digits("--scheduler", "pbt", "--population", "1"), ["Invalid population=1", "2"]),
    "no trials": Bad(digits("--trials", "0"), ["Invalid trials=0", "1"]),
    "no seeds": Bad(digits("--seeds", "0"), ["Invalid seeds=0", "1"]),
    "all held out": Bad(digits("--holdout", "1"), ["Invalid holdout=1", "1"]),
    "nothing held out": Bad(digits("--holdout", "0.0001"), ["Invalid holdout=0.0001", "at least one"]),
    "no gradients": Bad(digits("--max-gradients", "0"), ["Invalid max_gradients=0"]),
    "no pack": Bad(digits("--pack", "0"), ["Invalid pack=0", ">= 1"]),
    "pack that is no number": Bad(digits("--pack", "many"), ["Invalid --pack 'many'", "auto"]),
    "pack under a scheduler": Bad(
        digits("--pack", "2", "--scheduler", "asha"), ["Invalid pack=2", "scheduler='asha'", "1 or auto"]
    ),
    "no time": Bad(digits("--timeout", "0"), ["Invalid timeout=0", "> 0"]),
    "a trial that never fits": Bad(digits("--cpus-per-trial", "4000"), ["4000 CPU", "missing: ", "cpus_per_trial"]),
    "a GPU that is not there": Bad(digits("--gpus-per-trial", "4000"), ["4000 GPU", "missing: "]),
    "workers that never fit": Bad(
        digits("--placement", "ray", "--replicas", "4000"), ["4000 CPU", "missing: ", "placement='local'"]
    ),
    "GPUs that are not there": Bad(digits("-n", "2", "--gpus-per-replica", "999"), ["1998 GPU", "missing: "]),
    "unknown placement": Bad(digits("--placement", "rays"), ["placement='rays'", "auto, local, ray", "'ray'?"]),
    "packs of trials on workers": Bad(digits("--placement", "ray", "--pack", "2"), ["pack=2", "placement='ray'"]),
    "no CPU": Bad(digits("--cpus-per-trial", "0"), ["Invalid cpus_per_trial=0"]),
    "name that is no folder": Bad(digits("--name", "a/b"), ["Invalid name 'a/b'", "folder"]),
    "unknown field of the trainable": Bad(digits("-o", "hiden=3"), ["'hiden'", "Did you mean 'hidden'?"]),
    "unknown field of the run": Bad(digits("--epochs", "-1"), ["Invalid epochs=-1"]),
    "unknown study": Bad(["--resume", "nothing"], ["Unknown study 'nothing'", "It has: tables"]),
    "study whose space is not here": Bad(["--resume", "tables"], ["Unknown space 'toys'"]),
    "fixed field that no method has": Bad(digits("--set", "gama=1"), ["Unknown field 'gama'", "none can be trained"]),
    "fixed field that is impossible": Bad(digits("--set", "period=0"), ["Invalid period='0'", "fix less"]),
    "resume with choices": Bad(["digits", "--resume", "x", "--trials", "5"], ["TRAINABLE, trials", "leave them out"]),
    "malformed database": Bad(digits("--study", f"postgres//me:{SECRET}@host"), ["Invalid study URL"]),
    "grid of a continuous space": Bad(digits("--sampler", "grid"), ["grid", "lr is continuous"]),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_before_anything_starts(bad: Bad, tmp_path: Path) -> None:
    ran = run(*bad.words)
    assert ran.exit_code == 2, ran.output
    for words in bad.says:
        assert words in ran.stderr
    assert ran.stdout == ""
    assert SECRET not in ran.stderr
    assert not ray.is_initialized()
    assert not (tmp_path / "runs/sweeps").exists()


def test_a_study_of_another_space_or_with_other_terms_is_refused_naming_both(tmp_path: Path) -> None:
    with sweeping(tmp_path):
        pass
    ran = run(*digits("--name", "toys", "--trials", "4"))
    assert ran.exit_code == 2
    for words in ("'toys'", "the study has 3, you gave 4", 'you gave "digits"', "--resume toys"):
        assert words in ran.stderr


def test_a_space_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    with sweeping(tmp_path, toy_space(), space=f"{HERE}/sweeps.py:stiff_space"):
        pass
    ran = run("--resume", "toys")
    assert ran.exit_code == 2
    assert "another one here than in the study 'toys'" in ran.stderr


def test_what_is_agreed_on_comes_back_from_the_study() -> None:
    config = agreed(
        seeds=3, coupling={"replicas": 2}, run={"epochs": 2.0}, scheduler="median", maximize=("center/error",)
    )
    terms = config.terms({"name": "toys"})
    assert json.loads(json.dumps(terms.to_json()["settings"])) == terms.settings
    assert SweepConfig.of_study(terms) == config
    assert (terms.metrics, terms.directions) == (("center/error",), ("maximize",))


def test_fields_that_the_sweep_sets_are_refused() -> None:
    for name, value in (("method", "sgd"), ("address", "auto")):
        with pytest.raises(ConfigError, match=f"Must not hold '{name}'"):
            agreed(run={name: value})


def test_help_says_how_to_begin() -> None:
    said = run("--help").output
    for words in (
        "deeprelax sweep digits --space parle --trials 30", "Ctrl-C gives the running trials", "--resume",
        "--placement TEXT", "a worker a replica", "--gpus-per-replica 1 --address auto",
    ):  # fmt: skip
        assert words in said
