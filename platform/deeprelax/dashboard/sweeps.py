"""Sweeps as their study tells them: trials as rows, and who runs them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from optuna.trial import FrozenTrial

from deeprelax.tuning.study.database import Database
from deeprelax.tuning.study.ledger import DRIVER, OUTCOME
from deeprelax.tuning.study.terms import Terms
from deeprelax.tuning.sweep.finale import importances
from deeprelax.tuning.sweep.standing import Standing, cost_of


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial in a table.

    Args:
        number: of the trial.
        outcome: running, complete, pruned, failed, …
        values: of the objectives, as far as there are.
        parameters: that the study suggested.
        why: how it ended, in words.
        fidelity: data passes after which it was stopped early.
        seconds: that it took so far.
        bytes_exchanged: by one of its runs.
        gradients: it has cost.
        driver: host and process that ran it.
        ended: time at which it ended; empty before.
    """

    number: int
    outcome: str
    values: Sequence[float]
    parameters: Mapping[str, object]
    why: str = ""
    fidelity: float | None = None
    seconds: float | None = None
    bytes_exchanged: float | None = None
    gradients: float = 0.0
    driver: str = ""
    ended: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a study knows.

    Args:
        name: of the study.
        terms: what its drivers agreed on.
        standing: its trials and the best of them.
        counts: trials by outcome.
        done: trials that have their outcome.
        rows: the trials that count, by number.
        drivers: rows of ``name``, ``cluster``, ``versions``, ``trials``, ``running``.
        importances: share of each parameter; empty for few trials.
    """

    name: str
    terms: Terms
    standing: Standing
    counts: Mapping[str, int]
    done: int
    rows: Sequence[TrialRow]
    drivers: Sequence[Mapping[str, object]]
    importances: Mapping[str, float]


class Sweeps:
    """The sweeps of a database.

    Args:
        url: of the study's database; see :class:`~deeprelax.tuning.study.address.Address`.
    """

    def __init__(self, url: str | None = None) -> None:
        self.database = Database(url)
        self._importances: dict[str, tuple[int, Mapping[str, float]]] = {}

    def read(self, name: str) -> Sweep:
        """Return a sweep.

        Raises:
            StudyError: there is no such study.
        """
        terms, ledger = self.database.terms(name), self.database.ledger(name)
        standing = Standing(ledger.trials, terms.metrics, terms.directions)
        return Sweep(
            name=name,
            terms=terms,
            standing=standing,
            counts=ledger.counts(),
            done=ledger.done,
            rows=[_row(trial) for trial in ledger.trials],
            drivers=_drivers(ledger.trials),
            importances=self._weighed(name, standing),
        )

    def fingerprint(self, name: str) -> str:
        """Return what changes when a trial of the study begins, reports or ends."""
        trials = self.database.ledger(name).trials
        states = Counter(trial.state.name for trial in trials)
        return f"{sorted(states.items())} {sum(len(trial.intermediate_values) for trial in trials)}"

    def _weighed(self, name: str, standing: Standing) -> Mapping[str, float]:
        """Return the importances, computed again when a tenth more trials are complete: it takes a second."""
        complete = len(standing.complete)
        before, shares = self._importances.get(name, (0, {}))
        if complete > before * 1.1 or complete < before:
            shares = importances(standing)
            self._importances[name] = complete, shares
        return shares


def _row(trial: FrozenTrial) -> TrialRow:
    outcome: Mapping[str, object] = trial.user_attrs.get(OUTCOME, {})
    cost = cost_of(trial)
    fidelity = outcome.get("fidelity")
    return TrialRow(
        number=trial.number,
        outcome=str(outcome.get("kind", "lost" if trial.state.name == "FAIL" else trial.state.name.lower())),
        values=_values(trial, outcome),
        parameters=trial.params,
        why=str(outcome.get("why", "")),
        fidelity=float(fidelity) if isinstance(fidelity, int | float) else None,
        seconds=_seconds(trial),
        bytes_exchanged=cost.get("bytes_exchanged"),
        gradients=cost.get("gradients", 0.0),
        driver=_name(trial.user_attrs.get(DRIVER, {})),
        ended=_timestamp(trial.datetime_complete),
    )


def _values(trial: FrozenTrial, outcome: Mapping[str, object]) -> Sequence[float]:
    if trial.values:
        return list(trial.values)
    value = outcome.get("value")
    if isinstance(value, int | float):
        return [float(value)]
    return [trial.intermediate_values[max(trial.intermediate_values)]] if trial.intermediate_values else []


def _seconds(trial: FrozenTrial) -> float | None:
    if trial.datetime_start is None:
        return None
    end = _timestamp(trial.datetime_complete) or time.time()
    return end - (_timestamp(trial.datetime_start) or end)


def _timestamp(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _drivers(trials: Sequence[FrozenTrial]) -> list[dict[str, object]]:
    """Return a row a driver: who it is and how many trials it ran and runs."""
    found: dict[str, dict[str, object]] = {}
    ran: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for trial in trials:
        driver = trial.user_attrs.get(DRIVER)
        if driver is None:
            continue
        name = _name(driver)
        found.setdefault(name, {"name": name, **driver, "cluster": trial.user_attrs.get("cluster", {})})
        ran[name] += 1
        running[name] += trial.state.name == "RUNNING"
    return [row | {"trials": ran[name], "running": running[name]} for name, row in found.items()]


def _name(driver: Mapping[str, object]) -> str:
    return f"{driver.get('host', '?')}:{driver.get('pid', '?')}" if driver else ""


def written_time(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
