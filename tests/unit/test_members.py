"""The driver's view of its members: whole checkpoints, what was computed, what is told and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.toyruns import train
from tests.unit.toytasks import TOY, ToyConfig, toy

from deeprelax import fit, resume
from deeprelax.config import RunConfig
from deeprelax.coupling import Parle
from deeprelax.errors import ConfigError
from deeprelax.execution.members import Members
from deeprelax.execution.progress import Silence
from deeprelax.execution.recorder import Recorder
from deeprelax.execution.store import RunStore
from deeprelax.replica.checkpoint import newest


def happen(to: Members, event: str, replica: int, step: int = 0) -> str | None:
    return to.hear({"event": event, "replica": replica, "step": step})


def test_a_checkpoint_is_whole_once_all_who_take_part_have_written() -> None:
    members = Members(2, {}, 0)
    happen(members, "joined", 2)
    for replica in (0, 1):
        members.saved(replica, 10)
    assert members.whole() is None
    members.saved(2, 10)
    assert members.whole() == 10
    assert members.whole() is None, "it is declared once"


def test_a_lost_replica_does_not_keep_a_checkpoint_from_becoming_whole() -> None:
    members = Members(2, {}, 0)
    members.saved(0, 10)
    happen(members, "lost", 1)
    assert members.whole() == 10


def test_without_replica_0_there_is_no_center_in_it() -> None:
    members = Members(2, {}, 0)
    happen(members, "lost", 0)
    members.saved(1, 10)
    assert members.whole() is None


def test_what_was_computed_counts_from_where_each_came_in() -> None:
    members = Members(2, {}, 100)
    members.worked(0, 150)
    members.worked(1, 150)
    happen(members, "rejoined", 1, 170)
    members.worked(1, 160)  # a late row of the life before
    members.worked(1, 180)
    assert members.evaluations == 50 + 50 + 10


def test_what_befalls_members_is_told_and_counted_and_the_usual_is_not() -> None:
    members = Members(2, {"lost": 2}, 0)
    assert happen(members, "joined", 1) is None
    assert happen(members, "lost", 1, 30) == "replica 1: lost at step 30"
    assert members.hear({"event": "server_restarted", "step": 40}) == "the run: server restarted at step 40"
    assert members.incidents == {"lost": 3, "server_restarted": 1}


def test_incidents_and_the_bytes_of_the_lost_are_in_what_a_run_reports(tmp_path: Path) -> None:
    coupling = Parle(replicas=2, lr=0.1).model_dump()
    recorder = Recorder(RunStore(tmp_path), RunConfig(trainable=TOY, coupling=coupling, steps=20), Silence())
    for bytes_sent in (100, 40):
        row = {"event": "telemetry", "replica": 1, "step": 5, "exchange/bytes_sent": bytes_sent}
        recorder.take(row)
        recorder.take({"event": "quarantined", "replica": 1, "step": 5, "exchanges": 1})
    assert recorder.state()["members/quarantined"] == 2
    assert recorder.cost()["bytes_exchanged"] == 140
    log = tmp_path / "events.jsonl"
    assert [json.loads(line)["event"] for line in log.read_text().splitlines()] == ["quarantined"] * 2


def test_a_replica_that_has_no_part_in_the_checkpoint_is_a_newcomer(tmp_path: Path) -> None:
    coupling = Parle(replicas=3, period=5)
    whole = train(tmp_path / "run", coupling, steps=40, checkpoint_every=1)
    last = newest(whole.run_dir / "checkpoints")
    assert last is not None
    for part in last.path.glob("replica-002.*"):
        part.unlink()
    manifest = json.loads((last.path / "manifest.json").read_text())
    manifest["files"] = {name: size for name, size in manifest["files"].items() if "002" not in name}
    (last.path / "manifest.json").write_text(json.dumps(manifest))
    config = json.loads((whole.run_dir / "config.json").read_text())
    (whole.run_dir / "config.json").write_text(json.dumps(config | {"steps": 60}))
    again = resume(whole.run_dir, show_progress=False)
    later = {row["replica"] for row in again.telemetry() if int(str(row["step"])) > 40}
    assert later == {0, 1, 2}
    assert again.cost["gradient_evaluations_per_replica"] == 60


def test_a_pair_of_replicas_is_the_fewest_and_the_most(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"min_replicas=2\. Must be left out with local=True"):
        fit(TOY, replicas=(2, 8), local=True, run_dir=tmp_path / "none")
    one = fit(
        TOY, coupling=Parle(replicas=3), replicas=2, steps=4, local=True, run_dir=tmp_path / "run", show_progress=False
    )
    assert one.config.make_coupling().replicas == 2
    assert one.config.min_replicas is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"min_replicas": 4}, "min_replicas=4. Must be at most the coupling's replicas=3"),
        ({"min_replicas": 2, "placement": "local"}, "in one process all are there"),
        ({"min_replicas": 2, "method": "sgd"}, "its replicas start and stop together"),
    ],
    ids=["more than there are", "in one process", "a group"],
)
def test_growth_is_refused_where_replicas_cannot_come_and_go(fields: dict[str, Any], words: str) -> None:
    config = RunConfig(trainable=TOY, coupling={"replicas": 3, "lr": 0.1}, **fields)
    with pytest.raises(ConfigError, match=words):
        config.resolved(toy(ToyConfig()))
