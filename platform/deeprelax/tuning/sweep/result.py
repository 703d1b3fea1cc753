"""What a sweep gives back, and its files.

::

    sweep.json         what was agreed on, how it stands, the best    trials.jsonl   one line a trial
    best.yaml          the best configuration, fields of a run        best/          it trained on all training data
    environment.json   versions, machine, git commit                  trials/        NUMBER/seed-SEED: config, metrics,
                                                                                     telemetry, result; no weights,
                                                                                     but those of the best with
                                                                                     keep_best; schedule with pbt
    environment.json   versions, machine, git commit                  pictures/      history, parameters, importances,
                                                                                     schedules of the best, as SVG
    trials/            NUMBER/seed-SEED: config, metrics, telemetry, result; no weights
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from optuna.trial import FrozenTrial

from deeprelax.config import RunConfig
from deeprelax.execution.result import RunResult
from deeprelax.replica.checkpoint import write_bytes, write_json
from deeprelax.tuning.sweep.standing import cost_of


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A sweep that has ended, or was stopped.

    Args:
        name: of the study.
        folder: of the sweep's files.
        counts: trials by outcome, over all drivers.
        trial: number of the best trial, or None if none was trained to its end.
        cloned: from which trials it went on at which passes (``pbt``); ``config`` is then the schedule of its lineage,
            from the first step on.
        schedule: folder of its run, for ``deeprelax schedule`` (``pbt``); None if it is not on this machine.
        objectives: of the best trial: what it was chosen by, judged on the held-out data.
        errors: standard errors of them over the seeds; empty for one seed.
        config: the best configuration as a run on all training data.
        command: that run as a shell command.
        chosen_by: the command that repeats the number it was chosen by.
        final: that run's result, judged on the test set, which no trial has seen; None after Ctrl-C.
        importances: share of each parameter in what decides the first objective; empty for few trials.
        front: numbers of the trials that are best in some objective, for several objectives.
        stopped_early: reason and number of the trials that a scheduler stopped.
        failures: reason and number of the trials that have no value.
        pictures: files of the sweep's pictures.
        no_pictures: why there are none, and how to get them.
        stopped: True if Ctrl-C ended this driver.
    """

    name: str
    folder: Path
    counts: Mapping[str, int]
    trial: int | None = None
    cloned: Sequence[str] = ()
    schedule: Path | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    config: RunConfig | None = None
    command: str = ""
    chosen_by: str = ""
    final: RunResult | None = None
    importances: Mapping[str, float] = field(default_factory=dict)
    front: Sequence[int] = ()
    stopped_early: Mapping[str, int]
    failures: Mapping[str, int]
    pictures: Sequence[Path] = ()
    no_pictures: str = ""
    stopped: bool = False

    def summary(self) -> dict[str, object]:
        """Return the result as plain JSON values."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "counts": dict(self.counts),
            "trial": self.trial,
            "cloned": list(self.cloned),
            "schedule": None if self.schedule is None else str(self.schedule),
            "objectives": dict(self.objectives),
            "standard_errors": dict(self.errors),
            "command": self.command,
            "chosen_by": self.chosen_by,
            "final": None if self.final is None else self.final.summary(),
            "importances": dict(self.importances),
            "front": list(self.front),
            "stopped_early": dict(self.stopped_early),
            "failures": dict(self.failures),
            "pictures": [str(file) for file in self.pictures],
            "stopped": self.stopped,
        }

    def __str__(self) -> str:
        return json.dumps(self.summary(), indent=2)


def reasons(trials: Sequence[FrozenTrial], kinds: Sequence[str]) -> dict[str, int]:
    """Return how often each reason ended a trial, of the given kinds of outcome; the most frequent first."""
    found = [(outcome, trial) for trial in trials if (outcome := outcome_of(trial)).get("kind") in kinds]
    return dict(Counter(_short(trial, outcome) for outcome, trial in found).most_common())


def outcome_of(trial: FrozenTrial) -> Mapping[str, object]:
    """Return what the study keeps of how a trial has ended: ``kind`` and ``why``, and more; empty for complete ones."""
    outcome: Mapping[str, object] = trial.user_attrs.get("deeprelax:outcome", {})
    return outcome


def write_trials(folder: Path, trials: Sequence[FrozenTrial], metrics: Sequence[str]) -> None:
    """Write ``trials.jsonl``."""
    lines = [json.dumps(_line(trial, metrics)) + "\n" for trial in trials]
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "trials.jsonl", "".join(lines).encode())


def write_best(folder: Path, config: RunConfig) -> None:
    """Write ``best.yaml``: the fields of the run; those that nothing was given for are left out."""
    fields = config.model_dump(mode="json", exclude_none=True)
    write_bytes(folder / "best.yaml", yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).encode())


def write_summary(result: SweepResult, agreed: Mapping[str, object]) -> None:
    """Write ``sweep.json``."""
    write_json(result.folder / "sweep.json", {"sweep": dict(agreed), **result.summary()})


def _line(trial: FrozenTrial, metrics: Sequence[str]) -> dict[str, object]:
    outcome = outcome_of(trial)
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        **{key: outcome[key] for key in ("kind", "why") if key in outcome},
        **dict(zip(metrics, trial.values or (), strict=False)),
        "parameters": trial.params,
        "cost": dict(cost_of(trial)),
        "run": trial.user_attrs.get("run"),
        **({"cloned": trial.user_attrs["cloned"]} if "cloned" in trial.user_attrs else {}),
        "driver": trial.user_attrs.get("deeprelax:driver"),
        "cluster": trial.user_attrs.get("cluster"),
    }


def _short(trial: FrozenTrial, outcome: Mapping[str, object]) -> str:
    """Return the first line of why without what is the trial's own: the rule stands after the last semicolon."""
    why = str(trial.user_attrs.get("failure", outcome.get("why", outcome.get("kind"))))
    return why.rpartition("; ")[2].partition("\n")[0]
