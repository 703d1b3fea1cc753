"""Checkpoints on disk: which are kept, which are refused and how, what a resume drops."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.interruptions import (
    assert_same_run,
    checkpoints_of,
    continued,
    coupling_of,
    forget_after_first_checkpoint,
    train,
    train_interrupted,
)
from tests.unit.toytasks import InterruptError, at_batch, interrupt

from deeprelax.errors import CheckpointError
from deeprelax.replica import checkpoint


def test_declaring_a_checkpoint_complete_twice_does_no_harm(tmp_path: Path) -> None:
    for cost in ({"seconds": 1.0}, {"seconds": 1.0, "wait_s": 0.125}):
        checkpoint.write_json(checkpoint.folder(tmp_path, 7) / "replica-000.json", {"step": 7})
        checkpoint.complete(tmp_path, step=7, exchanges=2, replicas=1, cost=cost)
        found = checkpoint.newest(tmp_path)
        assert found is not None
        assert (found.step, found.exchanges, found.replicas, found.cost) == (7, 2, 1, cost)


@pytest.mark.parametrize("keep", [1, 3])
def test_only_the_newest_checkpoints_are_kept(keep: int, tmp_path: Path) -> None:
    train(tmp_path / "run", keep_checkpoints=keep, **coupling_of("parle"))
    kept = [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())]
    assert kept == ["step-00000015", "step-00000025", "step-00000040", "step-00000050", "step-00000060"][-keep:]


def test_no_checkpoints_on_the_way_on_request(tmp_path: Path) -> None:
    train(tmp_path / "run", checkpoint_every=0, keep_checkpoints=9, **coupling_of("parle"))
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["step-00000060"]


def test_a_half_written_checkpoint_is_ignored_and_later_cleared(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **coupling_of("parle"))
    train_interrupted(tmp_path / "parts", **coupling_of("parle"))
    good = checkpoints_of(tmp_path / "parts")[-1]
    half = good.with_name("step-00000020")
    shutil.copytree(good, half)
    (half / "manifest.json").unlink()
    (half / "replica-001.safetensors").write_bytes(b"half")
    assert_same_run(continued(tmp_path / "parts"), whole)
    assert not half.exists()


def damage_by_truncating(checkpoint: Path) -> Path:
    file = checkpoint / "replica-001.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    return file


def damage_by_overwriting(checkpoint: Path) -> Path:
    file = checkpoint / "exchange.safetensors"
    file.write_bytes(b"\xff" * len(file.read_bytes()))
    return file


def damage_by_deleting(checkpoint: Path) -> Path:
    file = checkpoint / "replica-002.json"
    file.unlink()
    return file


def damage_the_manifest(checkpoint: Path) -> Path:
    file = checkpoint / "manifest.json"
    file.write_text(file.read_text()[:-20])
    return file


def damage_by_an_empty_manifest(checkpoint: Path) -> Path:
    file = checkpoint / "manifest.json"
    file.write_text('{"files": {}, "cost": {}}')
    return file


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_truncating,
        damage_by_overwriting,
        damage_by_deleting,
        damage_the_manifest,
        damage_by_an_empty_manifest,
    ],
)
def test_a_damaged_file_is_named_with_the_way_out_which_works(damage: Callable[[Path], Path], tmp_path: Path) -> None:
    whole = train(tmp_path / "run", keep_checkpoints=3, **coupling_of("parle"))
    newest = checkpoints_of(tmp_path / "run")[-1]
    file = damage(newest)
    with pytest.raises(CheckpointError) as caught:
        continued(tmp_path / "run")
    assert str(file) in str(caught.value)
    assert f"Delete {newest} to resume from an older checkpoint" in str(caught.value)
    shutil.rmtree(newest)
    assert_same_run(continued(tmp_path / "run"), whole)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train_interrupted(tmp_path / "run", **coupling_of("parle"))
    config = tmp_path / "run" / "config.json"
    fields = json.loads(config.read_text())
    fields["trainable_config"]["batchnorm"] = False
    config.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"Must be \(\d+,\) for parle on this model; resume with the config"):
        continued(tmp_path / "run")


def test_log_lines_written_after_the_checkpoint_are_dropped_on_resume(tmp_path: Path) -> None:
    train(tmp_path / "run", keep_checkpoints=3, **coupling_of("local_sgd"))
    forget_after_first_checkpoint(tmp_path / "run")
    step = int(checkpoints_of(tmp_path / "run")[0].name.removeprefix("step-"))
    with at_batch(1, interrupt), pytest.raises(InterruptError):
        continued(tmp_path / "run")
    for name in ("metrics.jsonl", "telemetry.jsonl"):
        steps = [json.loads(line)["step"] for line in (tmp_path / "run" / name).read_text().splitlines()]
        assert steps
        assert max(steps) <= step < 60


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _: None, "it holds no run (no config.json). Give the run's folder."),
        (lambda path: path.mkdir(), "it holds no run (no config.json). Give the run's folder."),
        (lambda path: path.write_text("x"), "it holds no run (no config.json). Give the run's folder."),
    ],
)
def test_a_folder_without_a_run_cannot_be_resumed(
    prepare: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    prepare(tmp_path / "run")
    with pytest.raises(CheckpointError) as caught:
        continued(tmp_path / "run")
    assert str(caught.value) == f"Cannot resume '{tmp_path / 'run'}': {message}"


def test_a_run_that_died_before_its_first_checkpoint_says_so(tmp_path: Path) -> None:
    with at_batch(3, interrupt), pytest.raises(InterruptError):
        train(tmp_path / "run", **coupling_of("parle"))
    with pytest.raises(CheckpointError, match=r"has no complete checkpoint\. Start the run again"):
        continued(tmp_path / "run")
