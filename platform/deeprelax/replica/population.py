"""Population-based training across the replicas of one run: the rule, a function of what all replicas have heard.

At a *decision* (every so many exchanges) each replica knows the loss and the settings of all. Settings are multipliers
of the coupling's schedules: a replica with ``lr`` 1.2 steps 1.2 times as far as ``lr=cos(0.1,0)`` says, all along.

Equations (k = max(1, ⌊exploited·m⌋) of the m replicas present, at most ⌊m/2⌋; ranks by loss):
    the worst k:  s^a ← s^b · p^{±1}, a sign for each knob, b drawn from the best k, if b's loss is smaller
    the others:   s^a ← s^a

The population of Jaderberg et al. consists of independent runs, and a bad one copies weights *and* settings. Here the
coupling itself moves the weights together, so settings alone are copied. As there, the rule is greedy: it prefers what
lowers the loss until the next decision, which for a learning rate is often too small a one.

Reference: Jaderberg et al. 2017, Population Based Training of Neural Networks, arXiv:1711.09846 (truncation selection
and perturbation, section 4.1.1).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deeprelax.coupling.base import Coupling
from deeprelax.errors import ConfigError
from deeprelax.replica.seeds import derived_seed
from deeprelax.validation import config_error

Knob = Literal["lr", "gamma", "rho"]
Times = tuple[float, ...]
"""One replica's multipliers, in the order of ``PopulationConfig.knobs``."""

_DIGITS = 6  # of a multiplier: few enough that the mean over n replicas, times n, gives it back exactly


class PopulationConfig(BaseModel):
    """How the settings of the replicas differ and spread.

    Args:
        knobs: the schedules that are adapted: ``lr``, ``gamma``, ``rho``.
        every: exchanges between two decisions, >= 1.
        spread: the first multipliers are log-uniform in [1/spread, spread], >= 1; replica 0 starts with 1.
        exploited: part of the replicas that may take another's settings at a decision, in (0, 0.5]; at least one does.
        perturbation: p >= 1, the factor by which copied settings are changed up or down.
        judge: what is compared: the mean loss of a replica's own mini-batches since the last decision (``training``),
            or the loss of its weights on the run's ``holdout`` at the decision. Data that chose settings is no longer
            held out from them: judge the result elsewhere, by a run that replays what was learned.

    Raises:
        ConfigError: one line for every wrong field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    knobs: tuple[Knob, ...] = ("lr",)
    every: int = Field(default=4, ge=1)
    spread: float = Field(default=2.0, ge=1)
    exploited: float = Field(default=0.25, gt=0, le=0.5)
    perturbation: float = Field(default=1.2, ge=1)
    judge: Literal["training", "holdout"] = "training"

    def __init__(self, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise config_error(error, "the population", type(self).model_fields) from None

    @field_validator("knobs")
    @classmethod
    def _some(cls, knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
        if not knobs:
            raise ConfigError("Must name one of lr, gamma, rho, or several")
        return tuple(dict.fromkeys(knobs))

    def refuse_impossible(self, coupling: Coupling, steps: int, holdout: float = 0.0) -> None:
        """Refuse a run whose replicas cannot hold different settings, or never compare them.

        Args:
            coupling: the run's.
            steps: of the run.
            holdout: share of the training data that the run holds out.

        Raises:
            ConfigError: one replica only, weights that must stay equal, exchanges that overlap with steps, a knob that
                the coupling does not have or that is measured, fewer exchanges than a decision needs, or nothing held
                out to judge by.
        """
        method, schedules = coupling.method(), coupling.schedules()
        if coupling.replicas < 2:
            raise ConfigError(
                f"Invalid replicas={coupling.replicas}. Must be >= 2 to adapt settings: replicas learn from each other."
            )
        if coupling.kind == "mean":
            raise ConfigError(f"Cannot adapt {method}: its replicas hold equal weights, so all must step alike.")
        if coupling.overlap or coupling.fragments > 1:
            field = "overlap" if coupling.overlap else "fragments"
            raise ConfigError(f"Cannot adapt with {field}: a decision needs the exchange of all weights, at its step.")
        if coupling.sends == "elastic":
            raise ConfigError(f"Cannot adapt {method} with mode='async': replicas decide at exchanges that all share.")
        for knob in self.knobs:
            if knob not in schedules:
                has = ", ".join(name for name in ("lr", "gamma", "rho") if name in schedules)
                raise ConfigError(f"Cannot adapt {knob!r}: {method} has no such schedule. It has: {has}.")
        measured = [name for name, schedule in schedules.items() if schedule.shape == "auto"]
        if measured:
            raise ConfigError(
                f"Cannot adapt with {measured[0]}=auto(…): it is balanced by measuring replicas of equal settings. "
                f"Give {measured[0]} a schedule of its own, such as exp(10,2)."
            )
        if self.judge == "holdout" and not holdout:
            raise ConfigError(
                "Invalid judge='holdout': the run holds out nothing. Give holdout=0.1 (--holdout 0.1) too."
            )
        most = int(steps / max(1.0, min(coupling.period.values)))
        if most <= self.every:
            raise ConfigError(
                f"Invalid every={self.every}. Must be < {most}, the exchanges of the run; train longer, or decide or "
                "exchange more often."
            )


@dataclass(frozen=True)
class Standing:
    """How one replica stands at a decision.

    Args:
        replica: index a.
        loss: smaller is better; ``inf`` if it is not finite or not known.
        times: its multipliers, each > 0.
    """

    replica: int
    loss: float
    times: Times


class Move(NamedTuple):
    """What a decision gives one replica.

    Args:
        source: whose settings it has from now on; itself, if it keeps its own.
        times: its multipliers from now on.
    """

    source: int
    times: Times


def evolve(standings: Sequence[Standing], config: PopulationConfig, generator: random.Random) -> dict[int, Move]:
    """Return what each replica's settings become; the best keeps its own.

    Random numbers are drawn in the order of the ranks, worst first, so a population in another order decides the same.

    Args:
        standings: of the replicas that are present; losses that are equal are ranked by settings.
        config: how settings spread.
        generator: at the same state on every replica.
    """
    ranked = sorted(standings, key=lambda one: (one.loss, one.times, one.replica))
    moves = {one.replica: Move(one.replica, one.times) for one in ranked}
    count = min(max(1, int(config.exploited * len(ranked) + 1e-9)), len(ranked) // 2)
    for worse in reversed(ranked[len(ranked) - count :]):
        better = ranked[int(generator.random() * count)]
        times = tuple(rounded(one * _factor(config.perturbation, generator)) for one in better.times)
        if better.loss < worse.loss:
            moves[worse.replica] = Move(better.replica, times)
    return moves


def first_times(config: PopulationConfig, seed: int, replica: int) -> Times:
    """Return a replica's multipliers at the start of the run."""
    if replica == 0:
        return (1.0,) * len(config.knobs)
    generator = random.Random(derived_seed(seed, "population", "start", replica))
    return tuple(rounded(config.spread ** (2 * generator.random() - 1)) for _ in config.knobs)


def generator_of(seed: int, exchanges: int) -> random.Random:
    """Return the random numbers of the decision after so many exchanges: the same on every replica and at a resume."""
    return random.Random(derived_seed(seed, "population", exchanges))


def slots(standing: Standing, replicas: int) -> tuple[float, ...]:
    """Return a replica's scalars for a round: loss and multipliers in its own slots, zero in those of the others."""
    own = (standing.loss, *standing.times)
    before = standing.replica * len(own)
    return (0.0,) * before + own + (0.0,) * ((replicas - 1) * len(own) - before)


def gathered(means: Sequence[float], members: int, replicas: int) -> list[Standing]:
    """Return how the replicas of a round stand, from the means of their :func:`slots`.

    The sum over the members is mean · members, so the slots of those that did not take part are zero; a multiplier
    never is.
    """
    width = len(means) // replicas
    rows = [[mean * members for mean in means[a * width : (a + 1) * width]] for a in range(replicas)]
    return [
        Standing(a, loss if math.isfinite(loss) else math.inf, tuple(map(rounded, times)))
        for a, (loss, *times) in enumerate(rows)
        if times[0]
    ]


def rounded(value: float) -> float:
    """Return a multiplier with as many digits as are told to others and written down."""
    return float(f"{value:.{_DIGITS}g}")


def _factor(perturbation: float, generator: random.Random) -> float:
    return perturbation if generator.random() < 0.5 else 1 / perturbation
