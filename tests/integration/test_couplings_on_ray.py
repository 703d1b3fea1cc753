"""Every coupling gives the same numbers through the center server as in one process.

The replicas run in two warm actors, the same code as a Ray Train worker's: starting a Train run for each
coupling would take minutes. What Ray Train adds is tested in test_fit_on_ray.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

import deeprelax
from deeprelax.config import RunConfig
from deeprelax.coupling import METHODS, Coupling
from deeprelax.exchange.choice import Transport
from deeprelax.exchange.server.coordinator import Rules
from deeprelax.exchange.server.servers import CenterServers
from deeprelax.execution.entry import ENTRY, make_job
from deeprelax.execution.store import RunStore
from deeprelax.execution.worker import Assignment, run_replica
from deeprelax.registry import find
from deeprelax.replica.checkpoint import read_tensors

TRAINABLE = {"model": "mlp", "hidden": 32}
STEPS = 60


class Worker:
    """A process of the cluster."""

    def run(self, given: Assignment, replica: int) -> None:
        """Run one replica to its end."""
        run_replica(given, replica)


@pytest.fixture(scope="module")
def workers(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """Hold two warm processes."""
    request.getfixturevalue("ray_cluster")
    warm: list[Any] = [ray.remote(num_cpus=0)(Worker).remote() for _ in range(2)]
    yield warm
    for worker in warm:
        ray.kill(worker)


def train_through_server(
    coupling: Coupling, folder: Path, workers: list[Any], transport: Transport = "server", **fields: Any
) -> tuple[Path, list[dict[str, object]]]:
    """Return the folder of the last checkpoint and all rows."""
    chosen = find("digits")
    config = RunConfig(
        trainable="digits",
        trainable_config=chosen.configure(TRAINABLE),
        method=coupling.method(),
        coupling=coupling.model_dump(),
        steps=STEPS,
        **fields,
    )
    job = make_job(config.resolved(chosen.build(config.trainable_config)), chosen.reference(), folder)
    servers = CenterServers.start(Rules(replicas=coupling.replicas, elastic=coupling.survives_loss, lease_s=60.0))
    given = Assignment(
        entry=ENTRY,
        job=job,
        servers=tuple(servers.handles),  # type: ignore[typeddict-item]  # a NamedTuple, sent as a plain tuple
        replicas=coupling.replicas,
        transport=transport,
        round_timeout_s=60.0,
        device="cpu",
    )
    try:
        ray.get([worker.run.remote(given, index) for index, worker in enumerate(workers[: coupling.replicas])])
        rows = servers.drain().rows
    finally:
        servers.close()
    return max(folder.iterdir()), rows


@pytest.mark.parametrize(
    ("name", "transport"),
    [*((name, "server") for name in METHODS), *((name, "auto") for name in ("sgd", "parle", "diloco"))],
)
def test_same_numbers_through_the_server_as_in_one_process(
    name: str, transport: Transport, tmp_path: Path, workers: list[Any]
) -> None:
    coupling = METHODS[name]() if METHODS[name].single_replica else METHODS[name](replicas=2)

    here = deeprelax.fit(
        "digits",
        coupling=coupling,
        config=TRAINABLE,
        local=True,
        run_dir=tmp_path / "local",
        show_progress=False,
        steps=STEPS,
    )
    saved, rows = train_through_server(coupling, tmp_path / "checkpoints", workers, transport)
    evaluation = [row for row in rows if row["event"] == "evaluation"][-1]

    taken = {(row["transport"], row["reason"]) for row in rows if row["event"] == "transport"}
    assert taken == {("server" if transport == "server" else "shared_memory", None)}
    assert {metric: evaluation[metric] for metric in here.metrics} == here.metrics
    weights, expected = read_tensors(saved / "center.safetensors"), here.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_a_population_decides_the_same_through_the_server_as_in_one_process(tmp_path: Path, workers: list[Any]) -> None:
    coupling = METHODS["parle"](replicas=2, period=5)
    population = {"knobs": ("lr", "gamma", "rho"), "every": 2}

    here = deeprelax.fit(
        "digits",
        coupling=coupling,
        config=TRAINABLE,
        local=True,
        run_dir=tmp_path / "local",
        show_progress=False,
        steps=STEPS,
        population=population,
    )
    saved, rows = train_through_server(coupling, tmp_path / "checkpoints", workers, population=population)

    assert settings_in(rows) == settings_in(RunStore(here.run_dir).rows("adapted"))
    assert len(settings_in(rows)) == 2 * 6
    assert len({str(row["times"]) for row in settings_in(rows)}) > 3
    weights, expected = read_tensors(saved / "center.safetensors"), here.state_dict()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def settings_in(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return what was decided, in a fixed order, without what the process measured."""
    kept = [
        {name: value for name, value in row.items() if name != "seconds" and not name.startswith("exchange/")}
        for row in rows
        if row["event"] == "adapted"
    ]
    return sorted(kept, key=lambda row: (str(row["step"]), str(row["replica"])))
