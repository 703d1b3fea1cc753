"""The command line: what it prints, what it refuses, and that a refusal starts nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from deeprelax.cli import main
from deeprelax.coupling import METHODS

SMALL = ["fit", "digits", "--local", "-o", "model=mlp", "-o", "hidden=8"]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder, on a machine without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEEPRELAX_DATA", raising=False)
    return tmp_path


def parsed(ran: Result) -> dict[str, object]:
    """Return the one JSON object on standard output."""
    assert ran.exit_code == 0, ran.output
    lines = ran.stdout.splitlines()
    assert len(lines) == 1, "nothing else may be on standard output"
    summary = json.loads(lines[0])
    assert isinstance(summary, dict)
    return summary


# What it refuses.


class Bad(NamedTuple):
    """A command that must fail, and what its message must name: field, value, requirement or fix."""

    words: Sequence[str]
    says: Sequence[str]


def fit(*words: str, trainable: str = "digits") -> list[str]:
    return ["fit", trainable, *words]


def setting(*assignments: str, coupling: str = "parle") -> list[str]:
    return fit("-c", coupling, *(word for one in assignments for word in ("--set", one)))


BAD = {
    "no trainable": Bad(["fit"], ["Missing TRAINABLE", "deeprelax fit digits"]),
    "unknown trainable": Bad(
        fit(trainable="digit"), ["Unknown trainable 'digit'", "Did you mean 'digits'?", "char_lm"]
    ),
    "unknown module": Bad(fit(trainable="no.such:task"), ["Cannot import module 'no.such'"]),
    "unknown file": Bad(fit(trainable="no_such.py:task"), ["no_such.py", "Must be an existing Python file"]),
    "unknown function": Bad(
        fit(trainable="deeprelax_trainables.digits:digit"), ["Unknown function 'digit'", "Did you mean 'digits'?"]
    ),
    "unknown coupling": Bad(fit("-c", "parl"), ["Unknown coupling 'parl'", "Did you mean 'parle'?", "diloco"]),
    "unknown field": Bad(setting("gama=1"), ["coupling 'parle'", "Unknown field 'gama'", "Did you mean 'gamma'?"]),
    "two wrong fields": Bad(setting("gama=1", "period=0"), ["'gama'", "period='0'", ">= 1"]),
    "field of another method": Bad(setting("rho=1", coupling="hj"), ["coupling 'hj'", "Unknown field 'rho'", "gamma"]),
    "unknown trainable field": Bad(fit("-o", "modle=cnn"), ["'digits'", "'modle'", "Did you mean 'model'?"]),
    "trainable value": Bad(fit("-o", "channels=0"), ["channels", "'0'", "greater than or equal to 1"]),
    "trainable choice": Bad(fit("-o", "model=rnn"), ["model='rnn'", "'cnn' or 'mlp'"]),
    "unknown option": Bad(fit("--gamma", "1"), ["No such option", "--gamma"]),
    "no number": Bad(fit("--epochs", "ten"), ["--epochs", "'ten' is not a valid float"]),
    "no equals sign": Bad(setting("period"), ["--set 'period'", "FIELD=VALUE", "--set period=25"]),
    "no field": Bad(setting("=25"), ["--set '=25'", "FIELD=VALUE"]),
    "no equals sign in config": Bad(fit("-o", "model"), ["--config 'model'", "FIELD=VALUE"]),
    "schedule word": Bad(setting("gamma=high"), ["gamma='high'", "Must be a number or a shape", "exp(100,1)"]),
    "schedule shape": Bad(setting("gamma=expo(1,2)"), ["Unknown schedule shape 'expo'", "Did you mean 'exp'?"]),
    "schedule values": Bad(setting("gamma=exp(100)"), ["exp(100)", "two values, start and end; got 1"]),
    "schedule reaches 0": Bad(setting("gamma=exp(100,0)"), ["end=0.0", "> 0 in an exponential schedule", "lin"]),
    "schedule span": Bad(setting("gamma=exp(100,1,epochs=3)"), ["got epochs", "passes=…"]),
    "schedule sign": Bad(setting("gamma=lin(1,-1)"), ["gamma='lin(1,-1)'", "> 0 all along"]),
    "auto where it cannot be": Bad(setting("gamma=auto(3)"), ["gamma='auto(3)'", "Must not be auto", "rho"]),
    "learning rate": Bad(setting("lr=-0.1"), ["lr='-0.1'", ">= 0 and finite all along"]),
    "infinite rate": Bad(setting("lr=inf"), ["lr='inf'", "finite"]),
    "period": Bad(setting("period=lin(5,0.5)"), ["period='lin(5,0.5)'", ">= 1"]),
    "momentum": Bad(setting("momentum=1"), ["momentum='1'", "less than 1"]),
    "averaging": Bad(setting("averaging=1.5"), ["averaging='1.5'", "less than 1"]),
    "fraction": Bad(setting("data=overlap", "data_fraction=0"), ["data_fraction='0'", "greater than 0"]),
    "start": Bad(setting("start=random"), ["start='random'", "'same', 'noise' or 'independent'"]),
    "batchnorm": Bad(setting("batchnorm=global"), ["batchnorm='global'", "'recalibrate', 'average' or 'local'"]),
    "spring": Bad(setting("spring=loose"), ["spring='loose'", "'coupled' or 'decoupled'"]),
    "slow_lr": Bad(setting("slow_lr=1.5", coupling="lookahead"), ["slow_lr='1.5'", "less than or equal to 1"]),
    "no replica": Bad(fit("-n", "0"), ["replicas=0", "greater than or equal to 1"]),
    "replicas of a single method": Bad(fit("-c", "entropy_sgd", "-n", "3"), ["replicas=3", "Must be 1", "parle"]),
    "period of sgd": Bad(setting("period=5", coupling="sgd"), ["period", "Must be 1", "local_sgd"]),
    "more parts than samples": Bad(
        [*setting("data=shards"), "-n", "2000"], ["data='shards'", "1442 samples", "2000 replicas"]
    ),
    "optimizer": Bad(setting("optimizer=adamx"), ["optimizer='adamx'", "adamw", "Did you mean"]),
    "optimizer option": Bad(
        setting("optimizer=adamw", 'optimizer_options={"beta": 1}'), ["optimizer_options", "'adamw'", "'beta'"]
    ),
    "optimizer option value": Bad(
        setting("optimizer=adamw", 'optimizer_options={"betas": [2, 3]}'), ["optimizer_options", "beta", "2"]
    ),
    "too few values in an option": Bad(
        setting("optimizer=adamw", 'optimizer_options={"betas": [0.9]}'), ["optimizer_options", "'adamw'", "betas"]
    ),
    "option of the trainable's optimizer": Bad(
        setting('optimizer_options={"betas": [0.9, 0.99]}'), ["optimizer_options", "Must be empty", "momentum"]
    ),
    "option that is no json": Bad(setting("optimizer_options={betas"), ["--set optimizer_options={betas", "JSON"]),
    "config that is no json": Bad(["fit", "potential", "-o", "start=[1,"], ["--config start=[1,", "Must be JSON"]),
    "stiff spring": Bad(
        setting("gamma=0.01"), ["gamma=0.01", "lr=0.05", "Must be < 1.357", "gamma > 0.03684", "--force"]
    ),
    "stiff spring later on": Bad(setting("rho=exp(10,0.5)"), ["rho=0.9", "outer_lr=1", "Must be < 2", "at step"]),
    "stiff elastic step": Bad(
        setting("elasticity=1.5", coupling="easgd"), ["elasticity=1.5 with 3 replicas", "Must be < 1.5", "--force"]
    ),
    "epochs": Bad(fit("--epochs", "0"), ["epochs=0.0", "greater than 0"]),
    "endless": Bad(fit("--epochs", "inf"), ["epochs=inf", "finite"]),
    "never": Bad(fit("--evaluate-every", "inf"), ["evaluate_every=inf", "finite"]),
    "steps": Bad(fit("--steps", "-3"), ["steps=-3", "greater than or equal to 1"]),
    "seed": Bad(fit("--seed", "-1"), ["seed=-1", "greater than or equal to 0"]),
    "precision": Bad(fit("--precision", "fp16"), ["precision='fp16'", "'float32' or 'bf16'"]),
    "clip": Bad(fit("--clip-norm", "0"), ["clip_norm=0.0", "greater than 0"]),
    "accumulate": Bad(fit("--accumulate", "0"), ["accumulate=0", "greater than or equal to 1"]),
    "exchange": Bad(fit("--exchange", "gloo"), ["exchange='gloo'", "'auto', 'server' or 'shared_memory'"]),
    "exchange of one process": Bad(
        ["fit", "digits", "--local", "--exchange", "server"], ["exchange='server'", "Must be 'auto'", "--local"]
    ),
    "threads": Bad(fit("--threads", "0"), ["threads=0", "greater than or equal to 1"]),
    "report": Bad(fit("--report", "all"), ["report", "'all'", "'replicas' or 'ensemble'"]),
    "keep": Bad(fit("--keep-checkpoints", "0"), ["keep_checkpoints=0", "greater than or equal to 1"]),
    "batch": Bad(fit("--batch-size", "0"), ["batch_size=0", "greater than or equal to 1"]),
    "batch beyond the data": Bad(fit("--batch-size", "5000"), ["batch_size=5000", "at most the 1442 training samples"]),
    "two wrong options": Bad(fit("--seed", "-1", "--epochs", "0"), ["seed=-1", "epochs=0.0"]),
    "no text": Bad(["fit", "char_lm"], ["No text: none given", "text=FILE", "DEEPRELAX_DATA"]),
    "missing text": Bad(["fit", "char_lm", "-o", "text=no.txt"], ["no.txt is missing", "text=FILE"]),
    "missing data": Bad(
        ["fit", "cifar10", "-o", "data=no-such-folder"], ["No cifar10 data in", "no-such-folder", "To fix it"]
    ),
    "resume nothing": Bad(["fit", "--resume", "no-run"], ["Cannot resume 'no-run'", "no config.json", "run's folder"]),
    "resume with a trainable": Bad(fit("--resume", "no-run"), ["--resume with TRAINABLE", "leave them out"]),
    "resume with choices": Bad(
        ["fit", "--resume", "no-run", "--epochs", "3", "--set", "lr=1"], ["--resume with assignments, epochs"]
    ),
    "unknown command": Bad(["train"], ["No such command 'train'"]),
    "unknown coupling to show": Bad(["couplings", "show", "parl"], ["Unknown coupling 'parl'", "'parle'"]),
    "unknown trainable to show": Bad(["trainables", "show", "digit"], ["Unknown trainable 'digit'", "'digits'"]),
}


@pytest.mark.parametrize("where", [["--local"], []], ids=["local", "ray"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_error_with_exit_code_2_and_starts_nothing(
    bad: Bad, where: list[str], empty_folder: Path
) -> None:
    had_ray = "ray" in sys.modules
    ran = run(*bad.words, *(where if bad.words[0] == "fit" and "--resume" not in bad.words else []))
    assert ran.exit_code == 2, ran.output
    assert ran.stdout == ""
    assert [line.startswith("Error: ") for line in ran.stderr.splitlines()].count(True) == 1
    assert "Traceback" not in ran.stderr
    for word in bad.says:
        assert word in ran.stderr
    assert list(empty_folder.iterdir()) == [], "nothing may be created"
    assert ("ray" in sys.modules) == had_ray, "Ray may not even be imported"


def test_force_trains_past_the_stability_bound() -> None:
    refused = [*SMALL, "-c", "easgd", "--set", "elasticity=1.5", "--steps", "12"]
    assert run(*refused).exit_code == 2
    ran = run(*refused, "--force", "--json")
    assert parsed(ran)["steps"] == 12


def test_a_diverging_run_says_so_with_exit_code_2() -> None:
    ran = run(*SMALL, "--coupling", "sgd", "--set", "lr=1e38", "--steps", "5")
    assert ran.exit_code == 2
    assert ran.stderr.splitlines()[-1].startswith("Error: The loss of replica 0 is nan at step 5. Use a smaller lr")


def test_a_folder_that_holds_a_run_is_refused_and_kept(empty_folder: Path) -> None:
    command = [*SMALL, "--coupling", "sgd", "--steps", "3", "--run-dir", "run"]
    assert run(*command).exit_code == 0
    before = {path: path.read_bytes() for path in (empty_folder / "run").rglob("*") if path.is_file()}
    ran = run(*command)
    assert ran.exit_code == 2
    assert ran.stderr == "Error: Invalid run_dir='run': it holds a run. Use --resume run, or another folder.\n"
    assert {path: path.read_bytes() for path in (empty_folder / "run").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("place", "reason"), [("file", "File exists"), ("file/below", "Not a directory"), ("/proc/run", "No such file")]
)
def test_a_run_dir_that_cannot_be_made_is_refused(place: str, reason: str, empty_folder: Path) -> None:
    (empty_folder / "file").write_text("mine")
    ran = run(*SMALL, "--steps", "3", "--run-dir", place)
    assert ran.exit_code == 2
    assert f"Error: Invalid run_dir='{place}': {reason}" in ran.stderr
    assert "Must be a folder that can be written" in ran.stderr
    assert (empty_folder / "file").read_text() == "mine"


def test_a_run_dir_that_cannot_be_written_is_refused() -> None:
    ran = run(*SMALL, "--steps", "3", "--run-dir", "/proc/self")
    assert ran.exit_code == 2
    assert "Error: Invalid run_dir='/proc/self'" in ran.stderr


def test_an_existing_empty_folder_is_taken(empty_folder: Path) -> None:
    (empty_folder / "run").mkdir()
    summary = parsed(run(*SMALL, "--steps", "3", "--run-dir", "run", "--json"))
    assert summary["run_dir"] == str(empty_folder / "run")


# What it prints.


@pytest.mark.parametrize("method", METHODS)
def test_every_coupling_trains_and_prints_one_json_object(method: str, empty_folder: Path) -> None:
    summary = parsed(run("fit", "digits", "--coupling", method, "--steps", "20", "--local", "--json"))
    assert 0 <= float(str(summary["center/error"])) < 0.9
    assert float(str(summary["center/loss"])) > 0
    cost = summary["cost"]
    assert isinstance(cost, dict)
    assert cost["gradient_evaluations_per_replica"] == 20
    assert cost["gradient_evaluations_total"] == 20 * int(str(summary["replicas"]))
    run_dir = Path(str(summary["run_dir"]))
    assert run_dir.parent == empty_folder / "runs"
    assert (run_dir / "center.safetensors").is_file()
    assert json.loads((run_dir / "result.json").read_text()) == summary


def without_clock(summary: dict[str, object]) -> dict[str, object]:
    cost = summary["cost"]
    assert isinstance(cost, dict)
    return summary | {"run_dir": "", "cost": {k: v for k, v in cost.items() if k not in {"seconds", "wait_s"}}}


@pytest.mark.parametrize("method", ["parle", "heat"])
def test_the_same_seed_gives_the_same_numbers_and_another_does_not(method: str) -> None:
    command = [*SMALL, "-c", method, "--steps", "20", "--json"]
    first, again, other = (parsed(run(*command, "--seed", seed)) for seed in ("7", "7", "8"))
    assert without_clock(first) == without_clock(again)
    assert first["center/loss"] != other["center/loss"]
    weights = [(Path(str(one["run_dir"])) / "center.safetensors").read_bytes() for one in (first, again, other)]
    assert weights[0] == weights[1] != weights[2]


def test_choices_reach_the_run(empty_folder: Path) -> None:
    words = ["-n", "2", "--set", "gamma=exp(50,1)", "--set", "period=4", "--batch-size", "64", "--threads", "1"]
    more = ["--set", "optimizer=adamw", "--set", 'optimizer_options={"betas": [0.8, 0.9]}', "--set", "lr=0.001"]
    parsed(run(*SMALL, *words, *more, "--epochs", "0.5", "--run-dir", "run", "--report", "ensemble", "--json"))
    config = json.loads((empty_folder / "run" / "config.json").read_text())
    assert config["coupling"]["gamma"] == "exp(50,1)"
    assert config["coupling"]["replicas"] == 2
    assert config["coupling"]["optimizer_options"] == {"betas": [0.8, 0.9]}
    assert config["trainable_config"]["hidden"] == 8
    assert (config["steps"], config["batch_size"], config["report"]) == (12, 64, ["ensemble"])


def test_without_json_the_numbers_are_listed_on_standard_output_and_progress_on_standard_error() -> None:
    ran = run(*SMALL, "--steps", "20", "--run-dir", "run")
    assert ran.exit_code == 0
    names = [line.split("  ")[0] for line in ran.stdout.splitlines()]
    assert names == ["center/loss", "center/error", "gradient evaluations", "exchanged", "seconds", "files"]
    (line,) = ran.stderr.splitlines()
    for column in ("epoch", "center error", "loss", "spread", "γ", "ρ", "exchanged", "MB"):
        assert column in line


def test_as_a_real_command_json_is_alone_on_standard_output(empty_folder: Path) -> None:
    command = [str(Path(sys.executable).with_name("deeprelax")), *SMALL, "--steps", "20", "--json"]
    ran = subprocess.run(command, cwd=empty_folder, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(ran.stdout)["method"] == "parle"
    assert ran.stdout.count("\n") == 1
    assert ran.stderr.startswith("epoch 0.4  center error")


def test_a_trainable_in_a_file_is_trained_and_resumed(empty_folder: Path) -> None:
    (empty_folder / "tasks.py").write_text(
        "import torch\nfrom deeprelax import Task\n\n\ndef line() -> Task:\n"
        '    """A line."""\n'
        "    data = (torch.ones(16, 1), torch.zeros(16, dtype=torch.int64))\n"
        "    return Task(model=lambda: torch.nn.Linear(1, 2), train=data, test=data, batch_size=4)\n"
    )
    summary = parsed(run("fit", "tasks.py:line", "--local", "--steps", "30", "--json"))
    assert Path(str(summary["run_dir"])).name.startswith("line-parle-")
    again = parsed(run("fit", "--resume", str(summary["run_dir"]), "--json"))
    assert again["center/loss"] == summary["center/loss"]


# Help.


@pytest.mark.parametrize(
    ("words", "mentions"),
    [
        (["--help"], ["fit", "trainables", "couplings", "deeprelax fit digits --local", "mean of"]),
        (
            ["fit", "--help"],
            ["--coupling", "--replicas", "--set", "--resume", "--json", "--local", "--force", "--verbose", "Ctrl-C",
             "gamma=exp(100,1)", "center.safetensors", "file.py:function"],
        ),
        (["trainables", "list"], ["char_lm", "cifar10", "digits", "fashion_mnist", "potential", "AdamW"]),
        (["trainables", "show", "digits"], ["model", "cnn", "hidden", "256", "8 x 8 pixels", "CC BY 4.0"]),
        (["couplings", "list"], [*METHODS, "Parle: n replicas of Entropy-SGD"]),
        (["couplings", "show", "parle"], ["Equations", "rho", "exp(10,2)", "consensus", "arXiv:1707.00424", "period"]),
        (["--version"], ["deeprelax", "0.1"]),
    ],
    ids=lambda value: " ".join(value[:3]),
)  # fmt: skip
def test_help_and_lists_mention_what_they_should(words: list[str], mentions: list[str]) -> None:
    ran = run(*words)
    assert ran.exit_code == 0
    for word in mentions:
        assert word in ran.stdout


@pytest.mark.parametrize("method", METHODS)
def test_every_coupling_shows_its_equations_and_all_its_fields(method: str) -> None:
    shown = run("couplings", "show", method).stdout
    assert "←" in shown or "Equations" in shown
    for field in METHODS[method].model_fields:
        assert f"\n  {field} " in shown


# Imports.

IMPORTS = """
import json, sys
HEAVY = ("torch", "ray", "optuna", "pydantic", "rich", "numpy")
loaded = {}

def note(name):
    loaded[name] = [module for module in HEAVY if module in sys.modules]

import deeprelax
dir(deeprelax)
note("deeprelax")
from deeprelax.cli import main
for words in (["--help"], ["fit", "--help"], ["--version"]):
    try:
        main(words, standalone_mode=False)
    except SystemExit:
        pass
note("help")
import deeprelax.pde, deeprelax.coupling, deeprelax.replica.loop, deeprelax.replica.replica, deeprelax.optim
note("rooms")
deeprelax.Coupled, deeprelax.Task, deeprelax.fit, deeprelax.load_result
note("top level")
print(json.dumps(loaded), file=sys.stderr)
"""


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, timeout=120, env=dict(os.environ)
    )
    loaded = json.loads(ran.stderr.splitlines()[-1])
    assert loaded["deeprelax"] == []
    assert not {"torch", "ray", "optuna"} & set(loaded["help"])
    for name in ("rooms", "top level"):
        assert "torch" in loaded[name]
        assert not {"ray", "optuna"} & set(loaded[name])
