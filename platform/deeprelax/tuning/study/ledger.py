"""Who owes what: the state of a study, computed from its trials alone.

A study of n trials has n *slots*, and a slot has attempts 0, 1, ...: each is one trial of the database, made WAITING
with the attributes ``slot`` and ``attempt``. A slot is done when its last attempt needs no other. What is missing can
be computed by any driver from what is stored, so any driver can repair what another left half done.

Exactly once, without locks
    Two drivers may make the same attempt of a slot at the same time. Of trials with equal (slot, attempt) the one with
    the lowest number counts, the others are *duplicates* and never run. All drivers agree on this: numbers are given
    out under a lock on the study, so who sees a trial sees all with lower numbers. A finished trial never changes, so
    all drivers agree on the next attempt as well.

A short queue
    Each claim reads the whole queue, so it is kept short: the first slots are made with the study, and whoever claims
    slot i makes slot i + WINDOW. That is one driver, so there are no duplicates. If it dies before, others notice half
    a window later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from optuna.trial import FrozenTrial, TrialState

from deeprelax.tuning.study.terms import Terms

Kind: TypeAlias = Literal["failed", "diverged", "preempted", "infeasible", "lost", "duplicate"]

SLOT = "deeprelax:slot"
ATTEMPT = "deeprelax:attempt"
OUTCOME = "deeprelax:outcome"
DRIVER = "deeprelax:driver"
RETRY_OF = "deeprelax:retry_of"

WINDOW = 64
"""How many slots wait in the queue at most."""

LOST_LIMIT = 10
"""How often a trial may be lost with its driver before it counts as failed: perhaps it is what kills them."""

INFEASIBLE_LIMIT = 100
"""How many suggestions of a slot may be infeasible before the slot is given up."""

_STATES = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
}
_COUNTED = (*_STATES.values(), "failed", "preempted", "lost", "infeasible")


@dataclass(frozen=True)
class Attempt:
    """One attempt that is to be made.

    Args:
        slot: from 0 on.
        number: from 0 on.
        previous: the attempt before, if its parameters are used again.
    """

    slot: int
    number: int
    previous: FrozenTrial | None = None


class Ledger:
    """What the trials of a study amount to.

    Args:
        trials: all trials of the study, in any order; those of other tools are left out.
        slots: how many slots there are.
        retries: how often a failed trial runs again.
        replace: whether an infeasible suggestion is replaced by another.
    """

    def __init__(self, trials: Iterable[FrozenTrial], *, slots: int, retries: int, replace: bool = True) -> None:
        self.duplicates: list[FrozenTrial] = []
        self._chains: list[list[FrozenTrial]] = [[] for _ in range(slots)]
        self._limits = {
            "failed": retries,
            "diverged": 0,
            "lost": LOST_LIMIT,
            "infeasible": INFEASIBLE_LIMIT if replace else 0,
        }
        for trial in sorted(trials, key=lambda trial: (trial.user_attrs.get(ATTEMPT, -1), trial.number)):
            if not 0 <= trial.user_attrs.get(SLOT, -1) < slots:
                continue
            chain = self._chains[trial.user_attrs[SLOT]]
            if trial.user_attrs[ATTEMPT] == len(chain):
                chain.append(trial)
            else:
                self.duplicates.append(trial)

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], terms: Terms) -> Self:
        """Return the ledger of a study with these terms; the points of a grid are not replaced."""
        return cls(trials, slots=terms.trials, retries=terms.retries, replace=terms.sampler != "grid")

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that count, by number."""
        return sorted((trial for chain in self._chains for trial in chain), key=lambda trial: trial.number)

    @property
    def waiting(self) -> list[FrozenTrial]:
        """The trials that a driver may claim, in the order of their slots."""
        return [chain[-1] for chain in self._chains if chain and chain[-1].state == TrialState.WAITING]

    @property
    def done(self) -> int:
        """How many slots have their outcome."""
        return sum(bool(chain) and chain[-1].state.is_finished() and not self._again(chain) for chain in self._chains)

    def missing(self) -> list[Attempt]:
        """Return the attempts that somebody should have made."""
        return [
            Attempt(slot, len(chain), chain[-1] if chain and kind(chain[-1]) != "infeasible" else None)
            for slot, chain in enumerate(self._chains)
            if (self._again(chain) if chain else self._is_due(slot))
        ]

    def following(self, claimed: FrozenTrial) -> Attempt | None:
        """Return the attempt that the driver makes who has claimed a waiting trial, if any."""
        slot = claimed.user_attrs[SLOT] + WINDOW
        if claimed.user_attrs[ATTEMPT] > 0 or slot >= len(self._chains) or self._chains[slot]:
            return None
        return Attempt(slot, 0)

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state; ``asked`` is their sum. Those not made yet are waiting too."""
        found = Counter(_counted(trial) for trial in self.trials)
        found["waiting"] += sum(not chain or self._again(chain) for chain in self._chains)
        return {name: found[name] for name in _COUNTED} | {"asked": found.total()}

    def _is_due(self, slot: int) -> bool:
        """Return whether a slot that is not there should be."""
        if slot < WINDOW:
            return True
        before = self._chains[slot - WINDOW // 2]
        return bool(before) and before[0].state != TrialState.WAITING

    def _again(self, chain: list[FrozenTrial]) -> bool:
        """Return whether a slot needs another attempt after the last one of ``chain``."""
        last = kind(chain[-1])
        if last is None:
            return False
        alike = sum(kind(trial) == last for trial in chain)
        return last not in self._limits or alike <= self._limits[last]


def kind(trial: FrozenTrial) -> str | None:
    """Return why a failed trial failed, or None for any other trial.

    The reason is stored before the state, and who finds a trial whose lease has ended stores the state only. So a
    failed trial without reason was lost with its driver.
    """
    if trial.state != TrialState.FAIL:
        return None
    outcome: Mapping[str, object] = trial.user_attrs.get(OUTCOME, {})
    return str(outcome.get("kind", "lost"))


def _counted(trial: FrozenTrial) -> str:
    reason = kind(trial)
    if reason is None:
        return _STATES[trial.state]
    return reason if reason in _COUNTED else "failed"
