"""Asking a run to stop: it saves at the next exchange and says how to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.interruptions import (
    WITHOUT_BATCHNORM,
    assert_same_run,
    checkpoints_of,
    continued,
    coupling_of,
    train,
)
from tests.unit.toytasks import at_batch

from deeprelax import load_result
from deeprelax.cli import main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_first_interrupt_saves_at_the_next_exchange_and_resume_completes_the_run(
    number: signal.Signals, tmp_path: Path
) -> None:
    settings = coupling_of("parle") | {"config": WITHOUT_BATCHNORM}
    whole = train(tmp_path / "whole", **settings)
    before = signal.getsignal(number)
    with at_batch(3 * 22, lambda: signal.raise_signal(number)):
        stopped = train(tmp_path / "parts", **settings)
    assert signal.getsignal(number) is before
    assert stopped.stopped
    assert [path.name for path in checkpoints_of(tmp_path / "parts")] == ["step-00000015", "step-00000025"]
    assert stopped.cost["gradient_evaluations_per_replica"] == 25
    assert stopped.center_path.is_file()
    assert load_result(tmp_path / "parts").stopped
    resumed = continued(tmp_path / "parts")
    assert not resumed.stopped
    assert_same_run(resumed, whole)


@pytest.mark.parametrize("method", ["parle", "lookahead"])
def test_a_run_stopped_where_a_checkpoint_was_due_can_be_resumed(method: str, tmp_path: Path) -> None:
    settings = coupling_of(method) | {"config": WITHOUT_BATCHNORM}
    whole = train(tmp_path / "whole", **settings)
    replicas = whole.config.make_coupling().replicas
    with at_batch(13 * replicas, lambda: signal.raise_signal(signal.SIGINT)):
        assert train(tmp_path / "parts", **settings).stopped
    assert [path.name for path in checkpoints_of(tmp_path / "parts")] == ["step-00000015"]
    assert_same_run(continued(tmp_path / "parts"), whole)


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with at_batch(3, twice), pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", **coupling_of("parle"))


def test_an_interrupt_in_the_last_period_lets_the_run_end(tmp_path: Path) -> None:
    with at_batch(3 * 60, lambda: signal.raise_signal(signal.SIGINT)):
        ended = train(tmp_path / "run", config=WITHOUT_BATCHNORM, **coupling_of("parle"))
    assert not ended.stopped
    assert ended.cost["gradient_evaluations_per_replica"] == 60


def test_ctrl_c_on_the_command_line_saves_exits_130_and_says_how_to_resume(tmp_path: Path) -> None:
    digits = ["fit", "digits", "--local", "-o", "model=mlp", "-o", "hidden=8", "--set", "period=5", "--steps", "4000"]
    command = [str(Path(sys.executable).with_name("deeprelax")), *digits, "--run-dir", "run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    last = said.strip().splitlines()[-1]
    assert last == f"Stopped and saved. Continue with: deeprelax fit --resume {tmp_path / 'run'}"
    assert "Traceback" not in said
    steps = load_result(tmp_path / "run").cost["gradient_evaluations_per_replica"]
    assert 0 < steps < 4000


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.exists(), "the run wrote nothing"


def test_the_printed_command_resumes(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **coupling_of("parle"))
    with at_batch(3 * 22, lambda: signal.raise_signal(signal.SIGINT)):
        train(tmp_path / "parts", **coupling_of("parle"))
    ran = CliRunner().invoke(main, ["fit", "--resume", str(tmp_path / "parts"), "--json"])
    assert ran.exit_code == 0
    assert json.loads(ran.stdout)["center/error"] == whole.metrics["center/error"]
    assert_same_run(load_result(tmp_path / "parts"), whole)
