"""Checkpoints on disk: safetensors for numbers, JSON for words, each file written whole or not at all.

::

    checkpoints/step-00000250/
        replica-000.safetensors, .json     every vector, random state and counter of one replica
        exchange.safetensors               the center and its momentum, where the center lives
        center.safetensors                 the center as a plain state_dict
        manifest.json                      written last: without it the checkpoint does not exist
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from deeprelax.errors import CheckpointError

_PREFIX, _MANIFEST = "step-", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """One complete checkpoint.

    Args:
        path: its folder.
        step: mini-batch steps made.
        exchanges: exchanges completed.
        replicas: how many replicas it holds.
        cost: what the run had cost by then.
        elapsed: steps since the messages of the last exchange left; 0 unless they overlap with steps.
    """

    path: Path
    step: int
    exchanges: int
    replicas: int
    cost: Mapping[str, float]
    elapsed: int = 0

    @property
    def exchange_step(self) -> int:
        """Steps made when the last exchange began: where the center is."""
        return self.step - self.elapsed


def folder(root: Path, step: int) -> Path:
    """Return the folder of the checkpoint at ``step``."""
    return root / f"{_PREFIX}{step:08d}"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(ready))


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a safetensors file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def read_json(path: Path) -> dict[str, object]:
    """Return the object in a JSON file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(value, dict):
        raise _unreadable(path, "it holds no JSON object")
    return value


def _unreadable(path: Path, error: object) -> CheckpointError:
    way_out = f" Delete {path.parent} to resume from an older checkpoint." if path.match(f"{_PREFIX}*/*") else ""
    return CheckpointError(f"Cannot read {path}: {error}. It is missing or damaged.{way_out}")


def complete(
    root: Path, *, step: int, exchanges: int, replicas: int, cost: Mapping[str, float], elapsed: int = 0
) -> None:
    """Declare the checkpoint at ``step`` complete: all its parts are on disk."""
    path = folder(root, step)
    parts = sorted({*path.glob("[!.]*")} - {path / _MANIFEST})
    files = {part.name: part.stat().st_size for part in parts}
    numbers = {"step": step, "exchanges": exchanges, "elapsed": elapsed, "replicas": replicas}
    write_json(path / _MANIFEST, numbers | {"cost": dict(cost), "files": files})


def newest(root: Path) -> Checkpoint | None:
    """Return the newest complete checkpoint, or None."""
    found = _complete_ones(root)
    return _read_manifest(found[-1]) if found else None


def prune(root: Path, keep: int) -> None:
    """Remove all but the ``keep`` newest complete checkpoints, and what crashes left unfinished before them."""
    found = _complete_ones(root)
    if not found:
        return
    kept = set(found[-keep:])
    for path in sorted(root.glob(f"{_PREFIX}*")):
        if path not in kept and path < found[-1]:
            shutil.rmtree(path, ignore_errors=True)


def _complete_ones(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"{_PREFIX}*/{_MANIFEST}"))


def _read_manifest(path: Path) -> Checkpoint:
    manifest = read_json(path / _MANIFEST)
    files, cost = manifest.get("files"), manifest.get("cost")
    counts = [manifest.get(name) for name in ("step", "exchanges", "replicas")]
    if not isinstance(files, dict) or not isinstance(cost, dict) or None in counts:
        raise _unreadable(path / _MANIFEST, "it is no manifest of deeprelax")
    for name, size in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != size:
            raise CheckpointError(
                f"{file} is missing or has changed size. Delete {path} to resume from an older checkpoint."
            )
    step, exchanges, replicas = (int(str(count)) for count in counts)
    return Checkpoint(path, step, exchanges, replicas, cost, int(str(manifest.get("elapsed", 0))))
