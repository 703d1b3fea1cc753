"""An Optuna trial is a suggester as it is, conditional parameters included."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
from tests.unit.tuning.spaces import BUILT_IN

from deeprelax.tuning.space import Suggester


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    return optuna.create_study(storage=optuna.storages.InMemoryStorage(), sampler=sampler)


def test_trial_gives_and_stores_the_parameters_of_its_branch_alone() -> None:
    space, asking = BUILT_IN["couplings"], study(optuna.samplers.RandomSampler(seed=0))
    families = set()
    for _ in range(40):
        trial = asking.ask()
        suggester: Suggester = trial  # checked by mypy too
        fields = space.suggest(suggester)
        family = str(trial.params["coupling"])
        families.add(family)
        assert {name.partition(".")[0] for name in trial.params} == {"coupling", family}
        assert space.at(trial.params) == fields
        asking.tell(trial, 0.0)
    assert len(families) > 5


def test_tpe_learns_a_space_with_conditions() -> None:
    space, asking = BUILT_IN["parle"], study(optuna.samplers.TPESampler(seed=0, n_startup_trials=4))
    for _ in range(12):
        trial = asking.ask()
        space.suggest(trial)
        asking.tell(trial, float(trial.params["gamma.kappa_in"]))
    assert all(space.at(trial.params) for trial in asking.trials)


@pytest.mark.parametrize("name", BUILT_IN)
def test_published_points_are_tried_first_as_they_are(name: str) -> None:
    space, asking = BUILT_IN[name], study(optuna.samplers.RandomSampler(seed=0))
    for point in space.published():
        asking.enqueue_trial(point)
    for point in space.published():
        trial = asking.ask()
        assert space.suggest(trial) == space.at(point)
        assert trial.params == point
        asking.tell(trial, 0.0)
