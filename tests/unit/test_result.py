"""What a run leaves behind: its folder, and the result that reads it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.toytasks import EVERYTHING, TOY, ToyConfig, toy
from torch import nn

import deeprelax
from deeprelax import fit, load_result, resume
from deeprelax.config import RunConfig
from deeprelax.coupling import Lookahead, Parle, Sgd
from deeprelax.errors import CheckpointError, ConfigError
from deeprelax.execution.result import RunResult
from deeprelax.execution.store import environment
from deeprelax.registry import find

CONFIG = EVERYTHING
COUPLING = Parle(replicas=3, period=5)
STEPS = 30


def train(run_dir: Path | None, **fields: Any) -> RunResult:
    settings: dict[str, Any] = {"coupling": COUPLING, "config": CONFIG, "steps": STEPS, "seed": 3} | fields
    return fit(TOY, local=True, run_dir=run_dir, show_progress=False, **settings)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return train(tmp_path_factory.mktemp("runs") / "run", report=("replicas", "ensemble"))


def model() -> nn.Module:
    return toy(ToyConfig(**CONFIG)).model()


# The center.


def test_one_line_loads_the_center_into_the_users_model(result: RunResult) -> None:
    mine = result.load_into(model())
    task = toy(ToyConfig(**CONFIG))
    inputs, targets = task.test_data.batch(torch.arange(len(task.test_data)))
    mine.eval()
    error = (mine(inputs).argmax(-1) != targets).double().mean()
    assert float(error) == pytest.approx(result.metrics["center/error"], abs=1e-7)


def test_load_into_returns_the_same_model_and_leaves_its_parameters_independent(result: RunResult) -> None:
    mine = model()
    assert result.load_into(mine) is mine
    with torch.no_grad():
        next(mine.parameters()).zero_()
    assert not torch.equal(result.state_dict()["0.weight"], next(mine.parameters()))


def test_the_state_dict_is_plain_safetensors_with_the_models_own_names(result: RunResult) -> None:
    expected = model().state_dict()
    loaded = load_file(result.center_path)
    assert loaded.keys() == expected.keys()
    assert all(loaded[name].shape == expected[name].shape for name in expected)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in result.state_dict().items())


def test_another_model_is_refused_with_the_mismatch(result: RunResult) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit this model: (.|\n)*Missing key"):
        result.load_into(nn.Linear(2, 2))


def test_a_center_that_was_deleted_is_named(tmp_path: Path) -> None:
    ended = train(tmp_path / "run", coupling=Sgd(), steps=2)
    ended.center_path.unlink()
    with pytest.raises(CheckpointError) as caught:
        ended.state_dict()
    assert str(ended.center_path) in str(caught.value)
    assert "Delete" not in str(caught.value), "the run's folder must not be thrown away for it"


# Numbers.


def test_history_is_one_row_an_evaluation_and_ends_with_the_metrics(result: RunResult) -> None:
    rows = result.history()
    assert [row["step"] for row in rows] == [15, 25, STEPS]
    assert {row["event"] for row in rows} == {"evaluation"}
    for name in ("center/error", "center/loss"):
        assert rows[-1][name] == result.metrics[name]
    needed = {"passes", "exchanges", "train/loss", "replica/spread", "coupling/gamma", "coupling/rho"}
    assert needed | {"exchange/bytes_total", "seconds"} <= rows[-1].keys()


def test_an_evaluation_has_the_spread_loss_and_bytes_of_all_replicas_at_that_exchange(result: RunResult) -> None:
    last = result.history()[-1]
    rows = [row for row in result.telemetry() if row["step"] == STEPS]
    squares = [float(str(row["replica/distance"])) ** 2 for row in rows]
    assert last["replica/spread"] == pytest.approx(
        math.sqrt(sum(squares) / 3) / float(str(rows[0]["replica/center_norm"])), rel=1e-12
    )
    assert last["train/loss"] == pytest.approx(sum(float(str(row["replica/loss"])) for row in rows) / 3, rel=1e-12)
    moved = [float(str(row[f"exchange/bytes_{way}"])) for row in rows for way in ("sent", "received")]
    assert last["exchange/bytes_total"] == sum(moved)


def test_telemetry_is_one_row_a_replica_and_exchange(result: RunResult) -> None:
    rows = result.telemetry()
    assert sorted((row["step"], row["replica"]) for row in rows) == [(s, a) for s in (5, 30) for a in range(3)]
    measured = {"loss", "grad_norm", "spring_ratio", "distance", "center_norm"}
    assert {f"replica/{name}" for name in measured} <= rows[-1].keys()
    assert {"coupling/kappa_in", "coupling/kappa_out", "coupling/lr", "exchange/wait_s"} <= rows[-1].keys()


def test_metrics_hold_what_was_asked_for(result: RunResult) -> None:
    assert sorted(result.metrics) == [
        "center/error",
        "center/loss",
        "ensemble/error",
        "replicas/error_best",
        "replicas/error_mean",
    ]
    assert result.metrics["replicas/error_best"] <= result.metrics["replicas/error_mean"]


def test_the_cost_counts_gradients_passes_and_bytes(result: RunResult) -> None:
    cost = result.cost
    assert cost["gradient_evaluations_per_replica"] == STEPS
    assert cost["gradient_evaluations_total"] == 3 * STEPS
    assert cost["data_passes"] == STEPS / 12
    assert cost["wait_s"] >= 0
    assert cost["seconds"] > 0
    flat = next(tensor for name, tensor in load_file(saved(result, "replica-000")).items() if name == "fast.0")
    joined_exchanges = 1 + STEPS // 5
    assert cost["bytes_join"] == 2 * 3 * flat.numel() * 4
    assert cost["bytes_join"] + cost["bytes_exchange"] == 2 * 3 * joined_exchanges * flat.numel() * 4
    assert cost["bytes_evaluation"] > 0, "the ensemble's predictions travel too"
    assert cost["bytes_exchanged"] == sum(cost[f"bytes_{phase}"] for phase in ("join", "exchange", "evaluation"))


def saved(result: RunResult, name: str) -> Path:
    return result.run_dir / "checkpoints" / f"step-{STEPS:08d}" / f"{name}.safetensors"


def test_a_single_replica_exchanges_nothing(tmp_path: Path) -> None:
    assert train(tmp_path / "run", coupling=Lookahead(), steps=10).cost["bytes_exchanged"] == 0


def test_the_summary_is_plain_json_with_everything_needed_to_find_the_run(result: RunResult) -> None:
    summary = json.loads(json.dumps(result.summary()))
    assert json.loads(str(result)) == summary
    assert json.loads((result.run_dir / "result.json").read_text()) == summary
    assert summary.keys() == result.metrics.keys() | {
        "cost", "incidents", "run_dir", "trainable", "method", "replicas", "seed", "epochs", "steps", "stopped",
    }  # fmt: skip
    found = {name: summary[name] for name in ("trainable", "method", "replicas", "seed", "steps", "stopped")}
    assert found == {
        "trainable": TOY, "method": "parle", "replicas": 3, "seed": 3, "steps": STEPS, "stopped": False,
    }  # fmt: skip
    assert summary["epochs"] == STEPS / 12
    assert Path(summary["run_dir"]) == result.run_dir


def test_a_result_is_read_back_equal(result: RunResult) -> None:
    again = load_result(str(result.run_dir))
    assert again == result
    assert again.history() == result.history()


def test_a_relative_folder_gives_an_absolute_run_dir(result: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(result.run_dir.parent)
    assert load_result("run").run_dir == result.run_dir


def test_a_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot read .*result\.json"):
        load_result(tmp_path)


def test_a_result_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"result\.json.*no result of deeprelax"):
        load_result(tmp_path)


# The folder.


def test_the_folder_holds_what_the_documentation_says(result: RunResult) -> None:
    assert sorted(path.name for path in result.run_dir.iterdir()) == [
        "center.safetensors",
        "checkpoints",
        "config.json",
        "environment.json",
        "events.jsonl",
        "metrics.jsonl",
        "result.json",
        "telemetry.jsonl",
    ]
    newest = max((result.run_dir / "checkpoints").iterdir())
    assert sorted(path.name for path in newest.iterdir()) == [
        "center.safetensors",
        "exchange.safetensors",
        "manifest.json",
        *(f"replica-{a:03d}.{kind}" for a in range(3) for kind in ("json", "safetensors")),
    ]
    assert result.center_path.read_bytes() == (newest / "center.safetensors").read_bytes()


def test_the_config_on_disk_is_complete_and_makes_the_same_run(result: RunResult, tmp_path: Path) -> None:
    written = json.loads((result.run_dir / "config.json").read_text())
    config = RunConfig(**written)
    assert config == result.config
    assert None not in (config.steps, config.batch_size, config.threads)
    assert config.coupling.keys() == type(COUPLING).model_fields.keys()
    assert config.trainable_config.keys() == ToyConfig.model_fields.keys()
    assert config.coupling["lr"] == "cos(0.1,0)"
    again = fit(
        config.trainable, coupling=config.make_coupling(), config=config.trainable_config, local=True,
        run_dir=tmp_path / "again", show_progress=False, steps=config.steps, seed=config.seed,
    )  # fmt: skip
    assert again.center_path.read_bytes() == result.center_path.read_bytes()


def test_the_environment_says_what_ran_where(result: RunResult) -> None:
    found = json.loads((result.run_dir / "environment.json").read_text())
    assert found["versions"]["torch"] == version("torch") == torch.__version__
    assert found["versions"]["deeprelax"] == deeprelax.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cores"] == os.cpu_count()
    assert found["command"] == sys.argv
    assert found["started"].endswith("+00:00")
    assert found["machine"]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def test_the_git_commit_is_that_of_the_working_folder_or_none(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        ran = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    with inside(tmp_path):
        assert environment()["git_commit"] is None
        git("init", "-q")
        assert environment()["git_commit"] is None, "a repository without a commit"
        git("commit", "-q", "--allow-empty", "-m", "first")
        assert environment()["git_commit"] == git("rev-parse", "HEAD")


def test_a_fresh_name_is_made_under_runs_for_each_run(tmp_path: Path) -> None:
    with inside(tmp_path):
        dirs = [train(None, coupling=Sgd(), steps=2).run_dir for _ in range(2)]
    assert len(set(dirs)) == 2
    assert {path.parent for path in dirs} == {tmp_path / "runs"}
    assert all(path.name.startswith("toy-sgd-") for path in dirs)


def test_a_folder_that_holds_a_run_is_not_overwritten(result: RunResult) -> None:
    before = {path: path.read_bytes() for path in result.run_dir.glob("*.json*")}
    with pytest.raises(ConfigError, match=r"it holds a run\. Use --resume .*, or another folder"):
        train(result.run_dir)
    assert {path: path.read_bytes() for path in result.run_dir.glob("*.json*")} == before


def test_bytes_of_data_parallel_sgd_are_the_gradients_of_every_step(tmp_path: Path) -> None:
    cost = train(tmp_path / "run", coupling=Sgd(replicas=2), steps=10).cost
    weights = load_file(tmp_path / "run" / "checkpoints" / "step-00000010" / "exchange.safetensors")["center.0"]
    assert cost["bytes_exchanged"] == 2 * 2 * (1 + 10) * weights.numel() * 4
    assert math.isfinite(cost["seconds"])


def test_a_run_of_an_undecorated_function_remembers_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "plain_task.py").write_text(
        "import torch\nfrom torch import nn\nimport deeprelax\n\n"
        "def plain():\n"
        "    x, y = torch.linspace(-1, 1, 128).view(64, 2), torch.arange(64) % 2\n"
        "    return deeprelax.Task(model=lambda: nn.Linear(2, 2), train=(x, y), test=(x, y), batch_size=8)\n"
    )
    function = find(f"{tmp_path}/plain_task.py:plain").function

    result = fit(function, local=True, steps=30, run_dir=tmp_path / "run", show_progress=False)

    assert result.config.trainable == f"{tmp_path}/plain_task.py:plain"
    assert resume(result.run_dir, show_progress=False).metrics == result.metrics


def test_a_password_on_the_command_line_reaches_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["deeprelax", "--study=postgresql+psycopg://me:s3cret@host:5432/db", "a@b"])
    assert environment()["command"] == ["deeprelax", "--study=postgresql+psycopg://…@host:5432/db", "a@b"]
