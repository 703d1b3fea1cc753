"""Small studies in SQLite files, and a way to let their leases grow old without waiting."""

from __future__ import annotations

import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import text

from deeprelax.tuning.study import Study, Terms, list_studies
from deeprelax.tuning.study.address import Address
from deeprelax.tuning.study.storage import open_storage

NEVER_S = 3600.0


def terms(**changes: Any) -> Terms:
    given: dict[str, Any] = {
        "metrics": ("center/error",),
        "directions": ("minimize",),
        "space": {"name": "parabola"},
        "trials": 3,
        "sampler": "random",
    }
    return Terms(**(given | changes))


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/studies.db"


@cache
def _tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        open_storage(Address(url(Path(folder))), grace_s=1, patience_s=1).close()
        assert list_studies(url(Path(folder))) == []
        return (Path(folder) / "studies.db").read_bytes()


def prepared(folder: Path) -> str:
    """Return the URL of a database whose tables are there; making them costs more than most tests."""
    file = folder / "studies.db"
    if not file.exists():
        file.write_bytes(_tables())
    return url(folder)


def opened(folder: Path, agreed: Terms | None = None, name: str = "parabola", **options: Any) -> Study:
    """Open a study whose leases are renewed only when the test says so."""
    return Study.open(name, agreed, url=prepared(folder), heartbeat_s=NEVER_S, **options)


def age(study: Study, seconds: float) -> None:
    """Make all leases of the database older."""
    with study._storage.engine.begin() as connection:
        connection.execute(
            text("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, :shift)"),
            {"shift": f"-{seconds} seconds"},
        )


def searched(study: Study) -> list[dict[str, object]]:
    """Finish the study on a parabola and return the points in order."""
    while trial := study.ask():
        x = trial.suggest.suggest_float("x", -1, 1)
        y = trial.suggest.suggest_float("y", 1e-3, 1e1, log=True)
        trial.suggest.suggest_categorical("c", ["a", "b"])
        loss = (x - 0.3) ** 2 + math.log10(y) ** 2
        trial.complete([loss] if len(study.terms.metrics) == 1 else [loss, -loss])
    assert study.finished
    return [trial.params for trial in study.trials()]
