"""One replica's part in the population: its settings, what it tells the others, and what it takes from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.message import Reply
from deeprelax.errors import UnstableError
from deeprelax.replica.population import (
    PopulationConfig,
    Standing,
    Times,
    evolve,
    first_times,
    gathered,
    generator_of,
    rounded,
    slots,
)
from deeprelax.schedules import Position

_STABILITY_POINTS = 200
_HALVINGS = 8
_TIGHTER_IF_LARGER = {"lr": True, "gamma": False, "rho": False}

Losses = tuple[float, int]
"""Sum of a replica's mini-batch losses since the start of the run, and their number."""


class Adaptation:
    """Holds one replica's multipliers and turns them into its coupling.

    A replica that is new in a run under way, or missed a round, goes on with the run's own schedules; having no loss to
    show for the whole interval it ranks last at the next decision, and so takes the settings of one of the best.

    Settings that would make a spring unstable where the run's own schedules are not are brought halfway (in the
    logarithm) to 1, again and again, until they are stable for the rest of the run: those of the knobs that tighten.

    Args:
        config: how settings spread.
        base: the run's own coupling.
        index: a in 0..n-1.
        seed: of the run.
        start: the run's first position; its length is known.
        held_out_loss: returns the loss of the replica's weights on held-out data; None judges by the training loss.

    Attributes:
        coupling: the run's coupling with this replica's settings.
        news: rows about the settings since :meth:`take_news`.
    """

    def __init__(
        self,
        config: PopulationConfig,
        base: Coupling,
        *,
        index: int,
        seed: int,
        start: Position,
        held_out_loss: Callable[[], float] | None = None,
    ) -> None:
        self.config = config
        self.base = base
        self.index = index
        self.seed = seed
        self.held_out_loss = held_out_loss
        self.coupling = base
        self.news: list[dict[str, object]] = []
        self._times: Times = ()
        self._since: Losses = (0.0, 0)
        self._whole = True
        self._settle(first_times(config, seed, index), start, source=index)

    def due(self, position: Position) -> bool:
        """Return whether the exchange that ends at ``position`` brings a decision; the last of a run brings none."""
        return position.exchanges % self.config.every == 0 and position.step != position.total_steps

    def says(self, losses: Losses) -> tuple[float, ...]:
        """Return this replica's scalars for a decision."""
        return slots(Standing(self.index, self._loss(losses), self._times), self.base.replicas)

    def hears(self, reply: Reply, losses: Losses, position: Position) -> Coupling:
        """Take the settings that the decision gives this replica; return the coupling with them."""
        standings = gathered(reply.scalars, reply.members, self.base.replicas)
        moves = evolve(standings, self.config, generator_of(self.seed, position.exchanges))
        move = moves[self.index]
        loss = next(one.loss for one in standings if one.replica == self.index)
        self._since, self._whole = losses, True
        return self._settle(move.times, position, source=move.source, loss=loss)

    def rejoin(self, losses: Losses, position: Position) -> Coupling:
        """Go on with the run's own schedules at a position that this replica was not trained up to; return them."""
        self._since, self._whole = losses, False
        self.news = []
        return self._settle((1.0,) * len(self.config.knobs), position, source=self.index)

    def take_news(self) -> list[dict[str, object]]:
        """Return the news and forget it."""
        news, self.news = self.news, []
        return news

    def state(self) -> dict[str, object]:
        """Return what a checkpoint needs, as JSON values."""
        return {"times": list(self._times), "since": list(self._since), "whole": self._whole}

    def restore(self, state: Mapping[str, object]) -> None:
        """Take back what :meth:`state` returned."""
        total, count = cast("list[float]", state["since"])
        self._times = tuple(cast("list[float]", state["times"]))
        self._since, self._whole = (total, int(count)), bool(state["whole"])
        self.coupling = with_times(self.base, self.config, self._times)
        self.news = []

    def _loss(self, losses: Losses) -> float:
        total, count = losses[0] - self._since[0], losses[1] - self._since[1]
        if not (count and self._whole):
            return math.inf
        return total / count if self.held_out_loss is None else self.held_out_loss()

    def _settle(self, times: Times, position: Position, *, source: int, loss: float = math.inf) -> Coupling:
        ahead = position.ahead(max(1.0, self.base.period.at(position)), _STABILITY_POINTS)
        self._times = self._held(times, ahead)
        self.coupling = with_times(self.base, self.config, self._times)
        self.news.append(
            {
                "source": source,
                "loss": loss if math.isfinite(loss) else None,
                "clipped": self._times != times,
                "times": dict(zip(self.config.knobs, self._times, strict=True)),
            }
        )
        return self.coupling

    def _held(self, times: Times, ahead: Sequence[Position]) -> Times:
        """Return settings under which no spring passes its bound; a run that was forced past it is left alone."""
        if self._stable(times, ahead) or not self._stable((1.0,) * len(times), ahead):
            return times
        for part in (*(0.5**i for i in range(1, _HALVINGS)), 0.0):
            milder = tuple(
                rounded(value**part) if (value > 1) == _TIGHTER_IF_LARGER[knob] else value
                for knob, value in zip(self.config.knobs, times, strict=True)
            )
            if self._stable(milder, ahead):
                break
        return milder

    def _stable(self, times: Times, ahead: Sequence[Position]) -> bool:
        try:
            with_times(self.base, self.config, times).check_stable(ahead)
        except UnstableError:
            return False
        return True


def with_times(base: Coupling, config: PopulationConfig, times: Times) -> Coupling:
    """Return the coupling with its adapted schedules multiplied."""
    schedules = base.schedules()
    changes = {knob: schedules[knob].scaled(value) for knob, value in zip(config.knobs, times, strict=True)}
    return base.with_fields(**changes)
