"""Dimensionless numbers a field is searched in, where they are better conditioned than the field itself.

A spring γ means nothing without the step and the period it acts in: γ = 1 is stiff at η' = 1 and inert at η' = 1e-4.
κ_in = η'L/γ says how far the inner chain relaxes in a period, whatever the scale of the weights, so one range of it
serves every task. So does η'/(1-m), the step that momentum m makes of a steady gradient. All refer to the values at the
start of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deeprelax.errors import ConfigError, nearest
from deeprelax.tuning.space.draft import Draft

GRADIENT_RMS = 1e-3
"""Root mean square of a gradient's components that ``noise_ratio`` refers to.

It is that of a network of 1e6 weights with a gradient of norm 1. The run logs the true ratio as ``noise_ratio``.
"""


@dataclass(frozen=True)
class Measure:
    """A number that stands for a field.

    Args:
        fields: the fields it can stand for.
        formula: what the field is.
        convert: that formula: the number and what is known of the run give the field's value.
    """

    fields: tuple[str, ...]
    formula: str
    convert: Callable[[float, Draft], float]


def _rate(effective: float, draft: Draft) -> float:
    return effective * (1.0 - draft.level("momentum"))


def _outer_rate(effective: float, draft: Draft) -> float:
    return effective * (1.0 - draft.level("outer_momentum"))


def _gamma(kappa_in: float, draft: Draft) -> float:
    return draft.level("lr") * draft.level("period") / kappa_in


def _rho(kappa_out: float, draft: Draft) -> float:
    return draft.level("outer_lr" if draft.has("outer_lr") else "lr") / kappa_out


def _beta(noise_ratio: float, draft: Draft) -> float:
    return 2.0 / (draft.level("lr") * (noise_ratio * GRADIENT_RMS) ** 2)


def _radius(radius: float, draft: Draft) -> float:
    return radius**2 * draft.level("beta")


MEASURES: Mapping[str, Measure] = {
    "effective": Measure(("lr",), "effective·(1 - momentum)", _rate),
    "outer_effective": Measure(("outer_lr",), "outer_effective·(1 - outer_momentum)", _outer_rate),
    "kappa_in": Measure(("gamma",), "lr·period/kappa_in", _gamma),
    "kappa_out": Measure(("rho",), "outer_lr/kappa_out (lr/kappa_out without outer_lr)", _rho),
    "noise_ratio": Measure(("beta",), f"2/(lr·(noise_ratio·{GRADIENT_RMS:g})²)", _beta),
    "radius": Measure(("gamma",), "beta·radius²", _radius),
    "forgetting": Measure(
        ("momentum", "outer_momentum", "averaging", "damping"), "1 - forgetting", lambda value, _: 1.0 - value
    ),
}


def measure_for(field: str, name: str) -> Measure:
    """Return the measure ``name``, to stand for ``field``.

    Raises:
        ConfigError: it is unknown, or stands for other fields.
    """
    if name not in MEASURES:
        raise ConfigError(
            f"Unknown measure {name!r} of {field}.{nearest(name, MEASURES)} Measures: {', '.join(MEASURES)}."
        )
    measure = MEASURES[name]
    if field not in measure.fields:
        fitting = [key for key, value in MEASURES.items() if field in value.fields]
        fix = f"use {' or '.join(fitting)}" if fitting else f"{field} has none; give its own values"
        raise ConfigError(f"Invalid measure={name!r} of {field}. Must stand for {' or '.join(measure.fields)}; {fix}.")
    return measure
