"""A population on the toy task: its study in a file, its trials in this process, one after the other, without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.unit.toytasks import TOY, toy
from tests.unit.tuning.sweeps import Heard, agreed, study_url, toy_space

from deeprelax.reference import refer
from deeprelax.registry import find
from deeprelax.tuning.space import SearchSpace
from deeprelax.tuning.study import Study
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.keeping import Keeping
from deeprelax.tuning.sweep.outcome import Result
from deeprelax.tuning.sweep.population import Population
from deeprelax.tuning.sweep.recruiting import RecruitingSearcher
from deeprelax.tuning.sweep.standing import Standing
from deeprelax.tuning.sweep.trial import Given, SweepTrial, TrialConfig


@dataclass
class Training:
    """One driver: what it asks for is trained in turns, as Tune would."""

    searcher: RecruitingSearcher
    study: Study
    heard: Heard
    folder: Path
    keeps: bool
    rows: dict[str, list[Result]] = field(default_factory=dict)
    _processes: dict[str, SweepTrial] = field(default_factory=dict)

    def recruit(self, most: int = 10) -> list[str]:
        """Begin trials until the searcher gives none; return their names."""
        names = []
        for _ in range(most):
            name = f"tune-{len(self.rows)}"
            config = self.searcher.suggest(name)
            if not isinstance(config, dict):
                break
            assert "pack" not in config
            self._begin(name, config)
            names.append(name)
        return names

    def step(self, name: str) -> Result:
        """Train a trial to its next evaluation; tell the population and the searcher as Tune would."""
        result = self._processes[name].step()
        self.rows[name].append(result)
        if result["done"]:
            self.searcher.on_trial_complete(name, result)
        else:
            self.searcher.population.arrive(name, result)
            self.searcher.population.decide()
            self.searcher.on_trial_result(name, result)
        return result

    def run(self, names: list[str]) -> None:
        """Train all these trials to their ends."""
        while any(name in self.searcher.open for name in names):
            for name in [one for one in names if one in self.searcher.open]:
                self.step(name)

    def cloned(self) -> dict[int, list[str]]:
        """Return from whom trials went on, by number."""
        return {trial.number: trial.user_attrs.get("cloned", []) for trial in self.study.trials()}

    def _begin(self, name: str, config: TrialConfig) -> None:
        reference = refer(toy)
        fields = {"path": reference.path, "source_hash": reference.source_hash, "source": reference.source}
        process = SweepTrial.__new__(SweepTrial)
        process.setup(
            json.loads(json.dumps(config)),
            Given(reference=fields, folder=str(self.folder), pauses=True, keeps=self.keeps),
        )
        self._processes[name] = process
        self.rows[name] = []


@contextmanager
def training(folder: Path, space: SearchSpace | None = None, **fields: Any) -> Iterator[Training]:
    searched = space or toy_space()
    config = agreed(**{"scheduler": "pbt", "minimize": ("center/loss",), "run": {"epochs": 3}} | fields)
    feasible = Feasible(config, find(TOY))
    folder.mkdir(parents=True, exist_ok=True)
    url = study_url(folder)
    with Study.open("toys", config.terms(searched.describe()), url=url, first=searched.published()) as study:
        heard = Heard()
        audience = Keeping(
            heard,
            folder / "trials",
            lambda: Standing(study.trials(), config.metrics, config.directions),
            config.keep_best,
        )
        searcher = RecruitingSearcher(
            study, searched, feasible, config, lambda: config.population, 0.0, {"nodes": 1}, audience
        )
        searcher.population = Population(
            searched,
            feasible,
            folder / "trials",
            metric=config.metrics[0],
            direction=config.directions[0],
            seed=config.sampler_seed,
        )
        yield Training(searcher, study, heard, folder / "trials", config.keep_best > 0)
