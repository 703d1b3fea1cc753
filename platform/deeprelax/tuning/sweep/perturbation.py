"""New settings in the middle of a run: searched numbers are changed up or down, within the bounds of their space.

What changes is the *level* of a schedule (a learning rate, a spring, or the dimensionless number that stands for it);
its shape and its span stay. Other fields are those of weights and optimizers that exist already, and the period is
common to all replicas, so they stay too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from deeprelax.config import RunConfig
from deeprelax.coupling.methods import METHODS
from deeprelax.errors import ConfigError
from deeprelax.replica.population import Times, rounded
from deeprelax.schedules import Schedule, write
from deeprelax.schedules.position import UNITS
from deeprelax.tuning.space import Parameter, Scalar, SearchSpace
from deeprelax.tuning.space.draft import TRAINABLE_PREFIX

_NO_LEVELS = ("shape", "change", "growth", "unit", *UNITS)
_EQUAL = 1e-4  # schedules nearer than this differ by the rounding of what they are measured by
_MILDER = (1.0, 0.5, 0.25, 0.125)


def movable(space: SearchSpace, parameters: Mapping[str, Scalar], run: RunConfig) -> list[Parameter]:
    """Return the parameters of a trial that may change in the middle of its run.

    Args:
        space: that they belong to.
        parameters: of the trial.
        run: that the trial is.
    """
    schedules = run.make_coupling().schedules().keys() - {"period"}
    return [one for one in space.parameters() if one.name in parameters and knob_of(one) in schedules]


def check_movable(space: SearchSpace) -> None:
    """Refuse a space of which nothing may change in the middle of a run.

    Raises:
        ConfigError: names what could be searched.
    """
    schedules = {name for method in METHODS.values() for name in method(lr=0.1).schedules()} - {"period"}
    if not any(knob_of(one) in schedules for one in space.parameters()):
        raise ConfigError(
            f"Invalid scheduler='pbt' for space {space.name!r}: it searches nothing that may change in the middle of a "
            f"run. Search a number of one of {', '.join(sorted(schedules))}, or use another scheduler."
        )


def knob_of(parameter: Parameter) -> str:
    """Return the schedule of the coupling whose level the parameter is; empty if it is none."""
    key = parameter.name.removeprefix(parameter.field).lstrip(".")
    inside = f".{TRAINABLE_PREFIX}" in f".{parameter.field}"
    if parameter.kind != "float" or parameter.step is not None or key in _NO_LEVELS or inside:
        return ""
    return parameter.field.rpartition(".")[2]


def perturbed(parameters: Mapping[str, Scalar], moving: Sequence[Parameter], factors: Times) -> list[dict[str, Scalar]]:
    """Return the settings that the factors lead to, and after them milder ones, each half as far in the logarithm.

    Args:
        parameters: of the trial that is copied.
        moving: which of them change.
        factors: one for each, > 0.
    """
    return [
        {
            **parameters,
            **{
                one.name: _moved(one, parameters[one.name], factor**part)
                for one, factor in zip(moving, factors, strict=True)
            },
        }
        for part in _MILDER
    ]


def staged(run: RunConfig, following: RunConfig, fraction: float) -> RunConfig:
    """Return the run that goes over to the schedules of another one at a part of its length.

    Args:
        run: up to there.
        following: of the same method; only its schedules are taken, and none that is measured.
        fraction: of the run, in (0, 1).
    """
    now, then = run.make_coupling().schedules(), following.make_coupling().schedules()
    changes = {
        name: write(schedule.then(fraction, then[name]))
        for name, schedule in now.items()
        if name != "period" and "auto" not in (schedule.shape, then[name].shape) and _differ(schedule, then[name])
    }
    return run.with_fields(coupling=run.coupling | changes)


def _differ(now: Schedule, then: Schedule) -> bool:
    last = now.stages[-1][1] if now.shape == "staged" else now
    pairs = zip(last.values, then.values, strict=True)  # only levels were changed, so the shapes are equal
    return not all(math.isclose(value, other, rel_tol=_EQUAL) for value, other in pairs)


def _moved(parameter: Parameter, value: Scalar, factor: float) -> float:
    assert isinstance(value, int | float), "a level is a number"
    return min(max(rounded(value * factor), parameter.low), parameter.high)
