"""CMA-ES whose state is recomputed from the study's results.

Optuna's own ``CmaEsSampler`` stores a pickle of its state in the database and unpickles what it finds there: who may
write to the database could run code in every driver. Here nothing is stored: the finished trials, in the order of their
numbers, are cut into generations, and the state is what these say. With one driver this is CMA-ES with a first
generation drawn uniformly; with many, a few points of a generation come from the distribution before.

A parameter is searched in [0, 1] over its range, logarithmic where the range is. Categorical parameters and those that
only some trials have are drawn at random.

Reference:
    N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772 (2016).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from cmaes import CMA  # type: ignore[import-untyped]

_FIRST_SIGMA = 1 / 6  # of the range: three standard deviations reach from the middle to its ends

Numeric: TypeAlias = FloatDistribution | IntDistribution


class CmaEs(BaseSampler):
    """Suggests from the normal distribution that CMA-ES has adapted to the finished trials; one objective.

    Args:
        seed: of this trial's draw. The state does not depend on it.
    """

    def __init__(self, *, seed: int) -> None:
        self._seed = seed
        self._random = RandomSampler(seed=seed)
        self._space = IntersectionSearchSpace()

    def infer_relative_search_space(self, study: Study, _trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the numeric parameters that all finished trials have."""
        return {
            name: distribution
            for name, distribution in self._space.calculate(study).items()
            if isinstance(distribution, Numeric) and not distribution.single()
        }

    def sample_relative(
        self, study: Study, _trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:  # Optuna's own type for the values of parameters
        """Return a point of the newest generation, or nothing where there is too little to go on."""
        space = {name: item for name, item in search_space.items() if isinstance(item, Numeric)}
        if len(space) < 2:
            return {}
        optimizer = _fresh(len(space), self._seed)
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(finished) < optimizer.population_size:
            return {}
        _replay(optimizer, finished, space, sign=1 if study.direction == StudyDirection.MINIMIZE else -1)
        return {name: to_value(item, unit) for (name, item), unit in zip(space.items(), optimizer.ask(), strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - Optuna's own type for the value of a parameter
        """Return a value drawn at random."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _fresh(dimension: int, seed: int) -> CMA:
    from cmaes import CMA

    return CMA(
        mean=np.full(dimension, 0.5),
        sigma=_FIRST_SIGMA,
        bounds=np.array([[0.0, 1.0]] * dimension),
        seed=seed,
    )


def _replay(optimizer: CMA, finished: Sequence[FrozenTrial], space: Mapping[str, Numeric], sign: int) -> None:
    """Tell the optimizer all complete generations of the finished trials."""
    size = optimizer.population_size
    for start in range(0, len(finished) - size + 1, size):
        generation = finished[start : start + size]
        optimizer.tell(
            [
                (np.array([to_unit(item, trial.params[name]) for name, item in space.items()]), sign * _value(trial))
                for trial in generation
            ]
        )
        if optimizer.should_stop():  # converged: the distribution is a point
            return


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None, "a complete trial has a value"
    return trial.value


def to_unit(item: Numeric, value: float) -> float:
    """Return where ``value`` lies in the range, from 0 to 1."""
    low, high = _ends(item)
    return (_scaled(item, value) - low) / (high - low)


def to_value(item: Numeric, unit: float) -> float:
    """Return the value of the parameter at ``unit`` of its range."""
    low, high = _ends(item)
    scaled = low + float(unit) * (high - low)
    value = math.exp(scaled) if item.log else scaled
    if item.step is not None:
        value = item.low + round((value - item.low) / item.step) * item.step
    value = min(max(value, item.low), item.high)
    return round(value) if isinstance(item, IntDistribution) else value


def _ends(item: Numeric) -> tuple[float, float]:
    # Values on a grid get equal shares of the range, those at its ends too.
    half = item.step / 2 if item.step is not None else 0.0
    return _scaled(item, item.low - half), _scaled(item, item.high + half)


def _scaled(item: Numeric, value: float) -> float:
    return math.log(value) if item.log else value
