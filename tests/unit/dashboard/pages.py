"""The application over a small study and a small run, and a client that knows its tokens."""

from __future__ import annotations

import json
from pathlib import Path

from starlette.testclient import TestClient
from tests.unit.tuning.studies import opened, prepared, terms

from deeprelax.dashboard.access import Tokens
from deeprelax.dashboard.app import create_app
from deeprelax.dashboard.runs import Runs
from deeprelax.dashboard.sweeps import Sweeps

TOKENS = Tokens("reads", "writes")
READER = {"Authorization": "Bearer reads"}
WRITER = {"Authorization": "Bearer writes"}


def study(folder: Path) -> None:
    """Make the study ``parabola``: two trials complete, one waits."""
    with opened(folder, terms()) as made:
        for _ in range(2):
            trial = made.ask()
            assert trial is not None
            x = trial.suggest.suggest_float("x", -1, 1)
            trial.note(cost={"bytes_exchanged": 1e6, "gradients": 100.0}, cluster={"address": "10.0.0.1:6379"})
            trial.complete([x**2])


def run(folder: Path, *, lines: int = 4, replicas: int = 2) -> Path:
    """Write the files of a run that has not ended."""
    folder.mkdir(parents=True)
    config = {"trainable": "digits", "method": "parle", "seed": 0, "coupling": {"replicas": replicas, "period": 25}}
    (folder / "config.json").write_text(json.dumps(config))
    telemetry = [
        {
            "event": "telemetry", "replica": replica, "step": 25 * i, "replica/distance": 1 / (i + 1),
            "coupling/gamma": 10.0, "coupling/kappa_in": 0.0, "exchange/wait_s": 0.1 * i,
        }
        for i in range(lines)
        for replica in range(replicas)
    ]  # fmt: skip
    (folder / "telemetry.jsonl").write_text("".join(json.dumps(row) + "\n" for row in telemetry))
    judged = [
        {"event": "evaluation", "step": 25 * i, "seconds": i, "exchange/bytes_total": 1e6 * i, "center/error": 0.5 / i}
        for i in range(1, 4)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in judged))
    events = [{"event": "joined", "replica": a, "step": 0} for a in range(replicas)]
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in events))
    return folder


def client(folder: Path) -> TestClient:
    """Return a client of an application over ``folder/studies.db`` and ``folder/runs``; it follows no redirect."""
    app = create_app(Sweeps(prepared(folder)), Runs(folder / "runs"), TOKENS)
    return TestClient(app, base_url="http://deeprelax.test", follow_redirects=False)
