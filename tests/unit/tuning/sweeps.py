"""A small sweep on the toy task, its study in a file, without Ray's cluster."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.unit.toytasks import TOY

from deeprelax.config import RunConfig
from deeprelax.registry import find
from deeprelax.tuning.space import Choice, Constant, Float, SearchSpace
from deeprelax.tuning.study import Study
from deeprelax.tuning.sweep.config import SweepConfig
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.outcome import Outcome, Result
from deeprelax.tuning.sweep.packing import Pack, Packing
from deeprelax.tuning.sweep.searcher import StudySearcher
from deeprelax.tuning.sweep.trial import TrialConfig

SECRET = "s3cret"


def toy_space() -> SearchSpace:
    """Local SGD with a rate and a period."""
    return SearchSpace(
        name="toys",
        dimensions=(
            Constant(field="method", value="local_sgd"),
            Float(field="lr", low=0.01, high=0.5, log=True),
            Choice(field="period", choices=(2, 4)),
        ),
        summary="For tests.",
        source="none",
        points=({"lr": 0.1, "period": 4},),
    )


def still_space() -> SearchSpace:
    """A space in which there is nothing to search."""
    return SearchSpace(
        name="still", dimensions=(Constant(field="method", value="sgd"),), summary="For tests.", source="none"
    )


def stiff_space() -> SearchSpace:
    """Parle whose inner spring is far past its bound."""
    return SearchSpace(
        name="stiff",
        dimensions=(
            Constant(field="method", value="parle"),
            Constant(field="lr", value=1.0),
            Float(field="gamma", low=1e-4, high=1e-3),
        ),
        summary="For tests.",
        source="none",
    )


@dataclass
class Heard:
    """An audience that remembers."""

    begun_: list[int] = field(default_factory=list)
    ended_: list[tuple[int, Outcome, str]] = field(default_factory=list)

    def begun(self, number: int) -> None:
        self.begun_.append(number)

    def ended(self, number: int, outcome: Outcome, why: str, result: Result, requested: RunConfig | None) -> None:  # noqa: ARG002
        self.ended_.append((number, outcome, why))


@dataclass
class Sweeping:
    """A searcher and what is around it."""

    searcher: StudySearcher
    study: Study
    heard: Heard

    def ask(self, name: str) -> TrialConfig:
        found = self.searcher.suggest(name)
        assert isinstance(found, dict), found
        assert "pack" not in found, "several trials"
        return found

    def pack(self, name: str) -> list[TrialConfig]:
        found = self.searcher.suggest(name)
        assert isinstance(found, dict), found
        assert "pack" in found, "one trial alone"
        trials: list[TrialConfig] = json.loads(found["pack"])
        return trials

    def runs(self, name: str) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = json.loads(self.ask(name)["runs"])
        return found


def agreed(**fields: Any) -> SweepConfig:
    config = find(TOY).configure({})
    settings: dict[str, Any] = {"trainable": TOY, "space": "toys", "trials": 3, "sampler": "random"} | fields
    return SweepConfig(trainable_config=config, **settings)


def study_url(folder: Path, name: str = "studies") -> str:
    """Return the URL of a new database; making its tables anew takes a second."""
    file = folder / f"{name}.db"
    file.write_bytes(_empty_database())
    return f"sqlite:///{file}"


@cache
def _empty_database() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "studies.db"
        Study.open("tables", agreed().terms({}), url=f"sqlite:///{file}").close()
        with sqlite3.connect(file) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return file.read_bytes()


@contextmanager
def sweeping(
    folder: Path,
    searched: SearchSpace | None = None,
    *,
    slots: int = 2,
    spent: float = 0.0,
    file: str = "studies",
    pack: Pack = 1,
    **fields: Any,
) -> Iterator[Sweeping]:
    searched = searched or toy_space()
    config = agreed(**fields)
    terms = config.terms(searched.describe())
    url = study_url(folder, file)
    with Study.open("toys", terms, url=url, first=searched.published()) as study:
        heard = Heard()
        searcher = StudySearcher(
            study, searched, Feasible(config, find(TOY)), config, lambda: slots, spent, {"nodes": 1}, heard,
            Packing(pack, config),
        )  # fmt: skip
        yield Sweeping(searcher, study, heard)
