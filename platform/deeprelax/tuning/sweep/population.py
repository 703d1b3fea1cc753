"""Population-based training across trials: who goes on from whose weights, and under which settings.

The trials of a *population* are trained side by side and pause at every evaluation. When all of them have come there,
the worst quarter gives its runs up: each goes on as a copy of one of the best quarter, weights, momenta and settings,
with the searched levels of its schedules times p or 1/p (:func:`~deeprelax.replica.population.evolve`, the rule that
the replicas of one run also use). Then all train on. What nobody copies is not changed, so a trial that was never
among the worst is what it would be without the population.

Equations (k = max(1, ⌊m/4⌋) of the m trials that are still trained, at most ⌊m/2⌋; ranks by the objective):
    the worst k:  (x, θ)^a ← (x^b, θ^b · p^{±1}), a sign for each level, b drawn from the best k, if b is better
    the others:   (x, θ)^a ← (x, θ)^a

Reference: Jaderberg et al. 2017, Population Based Training of Neural Networks, arXiv:1711.09846, section 4.1.1.
"""

from __future__ import annotations

import math
import random
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, LeaseError
from deeprelax.replica.population import Move, PopulationConfig, Standing, Times, evolve
from deeprelax.replica.seeds import derived_seed
from deeprelax.tuning.space import Parameter, Scalar, SearchSpace
from deeprelax.tuning.study.terms import Direction, Json
from deeprelax.tuning.sweep.feasible import Feasible
from deeprelax.tuning.sweep.lineage import Branch, learned_lineage, save_lineage
from deeprelax.tuning.sweep.outcome import FINISHED, GRADIENTS, Result
from deeprelax.tuning.sweep.pausing import clone, run_folder, step_of
from deeprelax.tuning.sweep.perturbation import knob_of, movable, perturbed, staged
from deeprelax.tuning.sweep.searcher import Open

RULE = PopulationConfig(exploited=0.25, perturbation=1.2)
"""A quarter is replaced, and levels change by a factor of 1.2, as in section 4.1.1 of the paper."""


@dataclass
class Member:
    """A trial of the population.

    Args:
        opened: the trial; its run is what it trains now.
        runs: that run, resolved, one for each seed.
        parameters: the levels it trains with now, beside what it was suggested.
        lineage: from whose runs its own has come, oldest first; the last one is itself.
        said: what it reported when it paused; None while it trains.
    """

    opened: Open
    runs: list[RunConfig]
    parameters: dict[str, Scalar]
    lineage: tuple[Branch, ...]
    said: Result | None = None

    @property
    def number(self) -> int:
        """The number of the trial in its study."""
        return self.opened.trial.number


class Population:
    """The trials that one driver trains side by side.

    Args:
        space: of the sweep.
        feasible: refuses settings that cannot be trained.
        folder: of the trials' folders.
        metric: by which trials are compared.
        direction: of the metric.
        seed: of the copies and the changes.

    Attributes:
        closed: no trial joins any more; only then trials are compared.
    """

    def __init__(
        self, space: SearchSpace, feasible: Feasible, folder: Path, *, metric: str, direction: Direction, seed: int
    ) -> None:
        self.closed = False
        self._space = space
        self._feasible = feasible
        self._folder = folder
        self._metric = metric
        self._sign = -1.0 if direction == "maximize" else 1.0
        self._seed = seed
        self._members: dict[str, Member] = {}
        self._ended: list[Member] = []
        self._decisions = 0

    def renew(self) -> None:
        """Begin another population; all trials of the last one have ended."""
        assert not self._members, "a population ends with its last trial"
        self.closed, self._ended, self._decisions = False, [], 0

    def join(self, trial_id: str, opened: Open, runs: list[RunConfig]) -> None:
        """Take in a trial that begins."""
        parameters = cast("dict[str, Scalar]", dict(opened.trial.suggest.params))
        self._members[trial_id] = Member(opened, runs, parameters, (Branch(0, opened.trial.number, parameters),))

    def arrive(self, trial_id: str, result: Result) -> None:
        """Hear that a trial has paused."""
        self._members[trial_id].said = result

    def waits(self, trial_id: str) -> bool:
        """Return whether a trial has paused and was not compared yet."""
        return trial_id in self._members and self._members[trial_id].said is not None

    def leave(self, trial_id: str, result: Result | None = None) -> None:
        """Let a trial go that has ended; write down what it learned if it has come to its end."""
        member = self._members.pop(trial_id, None)
        if member is None:
            return
        self._ended.append(member)
        if result is not None and result.get(FINISHED):
            self._write_schedule(member)

    def decide(self) -> None:
        """If all trials have come to their evaluation, let the worst go on as copies of the best, and release all.

        Raises:
            CheckpointError: the runs of a trial are not on this machine.
            OSError: they cannot be copied.
        """
        members = {member.number: member for member in self._members.values() if member.said is not None}
        if not self.closed or not members or len(members) < len(self._members):
            return
        self._decisions += 1
        generator = random.Random(derived_seed(self._seed, "trials", min(members), self._decisions))
        moves = evolve([self._standing(member) for member in members.values()], RULE, generator)
        for number, move in moves.items():
            if move.source != number:
                self._copy(members[move.source], members[number], move)
        for member in members.values():
            member.said = None

    def _standing(self, member: Member) -> Standing:
        value = (member.said or {}).get(self._metric)
        loss = self._sign * value if isinstance(value, int | float) and math.isfinite(value) else math.inf
        return Standing(member.number, loss, (1.0,) * len(self._moving(member)))

    def _moving(self, member: Member) -> list[Parameter]:
        return movable(self._space, member.parameters, member.opened.requested)

    def _copy(self, source: Member, target: Member, move: Move) -> None:
        """Put a copy of the source's runs, with other settings, in the place of the target's."""
        before, after = self._path(source), self._path(target)
        step = step_of(run_folder(before, source.runs[0].seed))
        requested, runs, branch = self._explored(source, target, move.times, step)
        passes = cast("float", (source.said or {})["passes"])
        note = f"cloned from trial {source.number} at pass {passes:g}"
        for run in runs:
            row = {"passes": passes, "trial": source.number, "parameters": dict(branch.parameters)}
            clone(run_folder(before, run.seed), run_folder(after, run.seed), run, row)
        target.opened.goes_on_from(_gradients(target.said), _gradients(source.said))
        target.opened.requested = requested
        target.runs, target.parameters = runs, dict(branch.parameters)
        target.lineage = (*source.lineage, branch)
        target.opened.notes.append(note)
        with suppress(LeaseError):  # the next thing that Tune asks about it is whether it is lost
            target.opened.trial.note(run=cast("Json", requested.job()), cloned=list(target.opened.notes))

    def _explored(
        self, source: Member, target: Member, factors: Times, step: int
    ) -> tuple[RunConfig, list[RunConfig], Branch]:
        """Return the source's run under other settings from a step on; its own where no other can be trained."""
        fraction = step / (source.runs[0].steps or 1)
        for tried, parameters in enumerate(perturbed(source.parameters, self._moving(source), factors)):
            try:
                plain = self._feasible.requested(self._space.at(parameters))
                self._feasible.runs(plain)  # stable all along, not only from here on
                requested = staged(source.opened.requested, plain, fraction)
                return requested, self._feasible.runs(requested), Branch(step, target.number, parameters, tried > 0)
            except ConfigError:
                continue
        return source.opened.requested, source.runs, Branch(step, target.number, source.parameters, clipped=True)

    def _write_schedule(self, member: Member) -> None:
        learned = learned_lineage(
            member.lineage,
            member.runs[0],
            {one.number: one.runs[0] for one in (*self._ended, *self._members.values())},
            {knob_of(one) for one in self._moving(member)},
        )
        for run in member.runs:
            save_lineage(run_folder(self._path(member), run.seed), learned)

    def _path(self, member: Member) -> Path:
        return self._folder / f"{member.number:05d}"


def _gradients(said: Result | None) -> float:
    return cast("float", (said or {})[GRADIENTS])
