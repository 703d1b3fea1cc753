"""What an estimate of flatness costs and how fine it looks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeprelax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class FlatnessConfig:
    """The scale at which a loss is looked at, and the work spent on it.

    Runs compare only at equal ``gamma``, ``beta`` and ``samples``, so the defaults do not follow a run's schedules.

    Args:
        gamma: smoothing time of the local entropy, > 0 and finite; a flat direction is looked at over sqrt(gamma/beta).
        beta: inverse temperature of the Gibbs measure, > 0 and finite.
        steps: sampling steps from the free cloud to the Gibbs measure, and again as many inside it, >= 1.
        chains: independent chains; standard errors come from their spread, >= 3.
        probes: random vectors of the trace, >= 2.
        samples: training samples the loss is taken over, drawn by the seed; all of them if there are fewer.
        batch: samples computed at once, to save memory; the numbers mean the same.
        seed: of the samples and of all noise.

    Raises:
        ConfigError: a value is out of range.
    """

    gamma: float = 1.0
    beta: float = 1e4
    steps: int = 20
    chains: int = 4
    probes: int = 16
    samples: int = 256
    batch: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gamma", "beta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"Invalid {name}={value}. Must be > 0 and finite.")
        for name, least in (("steps", 1), ("chains", 3), ("probes", 2), ("samples", 1), ("batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"Invalid {name}={value}. Must be >= {least}.")
