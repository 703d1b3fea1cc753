"""A run on Ray Train gives the numbers of one process, and leaves the files it promises.

Each costs about 18 s, so there is one for each way a run can exchange: gradients, weights, nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import deeprelax
from deeprelax.coupling import METHODS, Coupling
from deeprelax.errors import AdmissionError

pytestmark = pytest.mark.usefixtures("ray_cluster")

STEPS = 60


def quick(name: str) -> Coupling:
    replicas = {} if METHODS[name].single_replica else {"replicas": 2}
    return METHODS[name](**replicas)


def train(coupling: Coupling, folder: Path, *, local: bool, **fields: Any) -> deeprelax.RunResult:
    return deeprelax.fit(
        "digits",
        coupling=coupling,
        config={"model": "mlp", "hidden": 32},
        local=local,
        run_dir=folder,
        show_progress=False,
        steps=STEPS,
        **fields,
    )


LONG = pytest.mark.long


@pytest.mark.parametrize("name", ["parle", pytest.param("sgd", marks=LONG), pytest.param("entropy_sgd", marks=LONG)])
def test_same_numbers_on_ray_as_in_one_process(name: str, tmp_path: Path) -> None:
    here = train(quick(name), tmp_path / "local", local=True, report=("replicas", "ensemble"))
    there = train(quick(name), tmp_path / "ray", local=False, report=("replicas", "ensemble"))

    assert there.metrics == here.metrics
    assert {"replicas/error_mean", "replicas/error_best", "ensemble/error"} <= there.metrics.keys()
    assert there.cost["bytes_exchanged"] == here.cost["bytes_exchanged"]
    weights, expected = there.state_dict(), here.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_run_on_ray_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train(quick("easgd"), tmp_path / "whole", local=False, checkpoint_every=0.5)
    expected = whole.state_dict()
    last = max((whole.run_dir / "checkpoints").iterdir())
    shutil.rmtree(last)

    resumed = deeprelax.resume(whole.run_dir, show_progress=False)

    assert resumed.metrics == whole.metrics
    assert all(torch.equal(tensor, expected[key]) for key, tensor in resumed.state_dict().items())


def test_more_replicas_than_the_cluster_holds_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(AdmissionError, match=r"Invalid replicas=500\..*local=True"):
            train(METHODS["parle"](replicas=500), folder, local=False)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
