"""Samplers by name: repeatable, different for every trial, and without pickles."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution
from tests.unit.tuning.studies import opened, searched, terms

from deeprelax.errors import ConfigError
from deeprelax.tuning.study import grid
from deeprelax.tuning.study.cmaes import Numeric, to_unit, to_value
from deeprelax.tuning.study.grid import GridSuggester
from deeprelax.tuning.study.samplers import seed_for


def test_a_sampler_repeats_itself_with_its_seed_only(tmp_path: Path) -> None:
    points = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        with opened(tmp_path, terms(trials=2, seed=seed), name) as study:
            points.append(searched(study))
    assert points[0] == points[1]
    assert points[0] != points[2]


def test_drivers_that_ask_at_the_same_time_get_different_points(tmp_path: Path) -> None:
    with opened(tmp_path, terms(trials=6, seed=3)) as one, opened(tmp_path) as two:
        trials = [driver.ask() for driver in (one, two) * 3]
        assert len({trial.suggest.suggest_float("x", 0, 1) for trial in trials if trial}) == 6


@given(
    st.one_of(
        st.builds(lambda low, width: FloatDistribution(low, low + width), st.floats(-9, 9), st.floats(0.1, 9)),
        st.builds(lambda low, f: FloatDistribution(low, low * f, log=True), st.floats(1e-6, 9), st.floats(1.1, 1e3)),
        st.builds(lambda k, n: FloatDistribution(k / 4, (k + n) / 4, step=0.25), st.integers(-9, 9), st.integers(1, 9)),
        st.builds(lambda low, n: IntDistribution(low, low + n), st.integers(1, 9), st.integers(1, 99)),
        st.builds(lambda low, n: IntDistribution(low, low + n, log=True), st.integers(1, 9), st.integers(1, 99)),
    ),
    st.floats(0, 1),
)
def test_the_unit_interval_covers_a_parameter(item: Numeric, unit: float) -> None:
    value = to_value(item, unit)
    assert item.low <= value <= item.high
    assert item._contains(float(value))
    assert to_value(item, to_unit(item, value)) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert to_value(item, 0.0) == pytest.approx(item.low)
    assert to_value(item, 1.0) == pytest.approx(item.high)


def test_seeds_depend_on_both_numbers() -> None:
    seeds = {seed_for(seed, number) for seed in range(20) for number in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**32 for seed in seeds)


def conditional(trial: GridSuggester) -> None:
    if trial.suggest_categorical("method", ["sgd", "easgd"]) == "easgd":
        trial.suggest_int("period", 1, 5, step=2)
        trial.suggest_float("rho", 0.1, 0.3, step=0.1)


def test_a_grid_is_searched_once(tmp_path: Path) -> None:
    points = grid(conditional)
    assert len(points) == 10
    agreed = terms(trials=10, sampler="grid")
    with opened(tmp_path, agreed, first=points) as study:
        while trial := study.ask():
            conditional(trial.suggest)  # type: ignore[arg-type]
            if trial.number == 4:
                trial.fail("unstable", "infeasible")
            else:
                trial.complete([1.0])
        assert study.finished
        assert [trial.params for trial in study.trials()] == points
        assert study.counts()["infeasible"] == 1


def test_a_continuous_space_has_no_grid() -> None:
    with pytest.raises(ConfigError, match=r"lr is continuous\. Give it a step or choices"):
        grid(lambda trial: trial.suggest_float("lr", 1e-3, 1, log=True))
    with pytest.raises(ConfigError, match="more than 10000 points"):
        grid(lambda trial: [trial.suggest_int(name, 0, 99) for name in "abc"])


@pytest.mark.parametrize(("sampler", "package"), [("gp", "scipy"), ("cmaes", "cmaes")])
def test_a_sampler_whose_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, package: str
) -> None:
    monkeypatch.setattr("deeprelax.tuning.study.samplers.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=f"it needs {package}, which is not installed"):
        opened(tmp_path, terms(sampler=sampler))
