"""Where a run is, in every unit a schedule can be written in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from deeprelax.errors import ConfigError

Unit = Literal["steps", "exchanges", "passes", "fraction"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True, kw_only=True)
class Position:
    """A point of a run.

    Args:
        step: mini-batch gradients one replica has taken.
        exchanges: exchanges completed.
        steps_per_pass: mini-batches in one data pass; None if the loop belongs to a user who did not say.
        total_steps: mini-batches in the whole run, likewise.
    """

    step: int = 0
    exchanges: int = 0
    steps_per_pass: int | None = None
    total_steps: int | None = None

    def measured_in(self, unit: Unit) -> float:
        """Return how far the run is in ``unit``.

        Raises:
            ConfigError: the unit needs a length that is not known.
        """
        if unit == "steps":
            return float(self.step)
        if unit == "exchanges":
            return float(self.exchanges)
        whole = self.steps_per_pass if unit == "passes" else self.total_steps
        if whole is None:
            missing = "steps_per_pass" if unit == "passes" else "total_steps"
            raise ConfigError(
                f"Invalid unit={unit!r}. Must be 'steps' or 'exchanges' while {missing} is unknown; give {missing}=."
            )
        return self.step / whole

    def ahead(self, period: float, count: int) -> list[Position]:
        """Return points from here to the end of the run, both among them; its length must be known.

        Args:
            period: mini-batch steps between two exchanges, to say how many will have been completed.
            count: parts the rest of the run is divided into.
        """
        assert self.total_steps is not None, "the run has a length"
        left = self.total_steps - self.step
        return [
            replace(self, step=self.step + more, exchanges=self.exchanges + int(more / period))
            for more in sorted({round(i * left / count) for i in range(count + 1)})
        ]
