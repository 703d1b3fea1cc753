"""Each of Optuna's samplers drives a study, with one metric and with several."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.tuning.studies import opened, searched, terms

from deeprelax.tuning.study.terms import SAMPLERS

NAMES = sorted({*SAMPLERS} - {"grid"})
TWO = {"metrics": ("a", "b"), "directions": ("minimize", "maximize")}


@pytest.mark.parametrize("sampler", NAMES)
def test_a_sampler_repeats_itself(tmp_path: Path, sampler: str) -> None:
    points = []
    for name in ("one", "again"):
        with opened(tmp_path, terms(trials=14, sampler=sampler, seed=1), name) as study:
            points.append(searched(study))
    assert points[0] == points[1]


@pytest.mark.parametrize("sampler", sorted({*NAMES} - {"cmaes"}))
def test_a_sampler_takes_several_metrics(tmp_path: Path, sampler: str) -> None:
    with opened(tmp_path, terms(trials=14, sampler=sampler, **TWO)) as study:
        assert len(searched(study)) == 14


def test_cmaes_closes_in_on_the_minimum_and_stores_no_state(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=36, sampler="cmaes", seed=2)) as study:
        searched(study)
        losses = [trial.values[0] for trial in study.trials() if trial.values]
        stored = [{**trial.system_attrs, **trial.user_attrs} for trial in study.trials()]
    assert all(name.startswith("deeprelax:") for attributes in stored for name in attributes)
    assert sum(losses[-12:]) < sum(losses[:12]) / 3
