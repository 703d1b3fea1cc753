"""What Ray Tune runs for every trial: a warm process that takes one configuration after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast, final

import torch
from ray.tune import Trainable

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError, DeepRelaxError, DivergedError
from deeprelax.reference import Reference
from deeprelax.registry import resolve
from deeprelax.replica.task import Task
from deeprelax.tuning.sweep.disk import full_disk, is_full
from deeprelax.tuning.sweep.nested import NestedReplication
from deeprelax.tuning.sweep.outcome import (
    DISK_FULL,
    DIVERGED,
    ERRORS,
    FAILED,
    FINISHED,
    GRADIENTS,
    ONE_BY_ONE,
    PACK,
    PAUSED,
)
from deeprelax.tuning.sweep.pausing import paused_configs
from deeprelax.tuning.sweep.replication import Judgement, Replication
from deeprelax.tuning.sweep.stacking import Stacking, train_together

DONE = "done"
"""Tune's name: the trial ends with this result."""


class Given(TypedDict):
    """What all trials of a sweep share.

    Args:
        reference: where the trainable's code is, the fields of a :class:`~deeprelax.reference.Reference`.
        folder: of the trials' folders.
        pauses: trials pause at every evaluation; default no.
        keeps: trials leave their last checkpoint when they have ended; default no.
    """

    reference: dict[str, str | None]
    folder: str
    pauses: NotRequired[bool]
    keeps: NotRequired[bool]


@final  # so that a look for "pack" tells the two apart
class TrialConfig(TypedDict):
    """What makes a trial. Short, because Tune copies it often.

    Args:
        number: of the trial in its study.
        runs: resolved configs of its runs, as JSON.
        resumes: they were paused, and go on as their folders say; default no.
    """

    number: int
    runs: str
    resumes: NotRequired[bool]


@final
class PackConfig(TypedDict):
    """What makes several trials that one process trains in one step.

    Args:
        pack: a list of :class:`TrialConfig`, as JSON.
    """

    pack: str


class SweepTrial(Trainable):
    """A trial; Tune calls ``setup`` once a process, ``reset_config`` for every further trial in it, ``step`` to train.

    All replicas of all seeds are in this process, or on workers in its placement group. What the trial's own code
    raises is a fact about the trial and part of its result: the process lives on for the next one. A pack is to Tune
    one trial with one step.
    """

    def setup(self, config: TrialConfig | PackConfig, given: Given) -> None:  # type: ignore[override]  # from with_parameters
        """Begin the first trial. Nothing is loaded here: what fails here, Tune takes for the death of the process."""
        self._replication: Replication | NestedReplication | None = None
        self._reference = Reference(**cast("dict[str, str]", given["reference"]))
        self._folder = Path(given["folder"])
        self._pauses, self._keeps = given.get("pauses", False), given.get("keeps", False)
        self._tasks: dict[str, Task] = {}
        self._stacking = Stacking()
        self._take(config)

    def reset_config(self, new_config: TrialConfig | PackConfig) -> bool:  # type: ignore[override]  # Tune says dict[Any, Any]
        """Begin another trial, or pack."""
        self._take(new_config)
        return True

    def step(self) -> dict[str, object]:
        """Train to the next evaluation of the center and return it; a pack is trained to its end."""
        if self._pack:
            return {PACK: json.dumps(self._train(self._pack)), DONE: True}
        return self._advance()

    def _train(self, pack: Sequence[TrialConfig]) -> list[dict[str, object]]:
        """Train a pack: together if its runs ask for it and it can be done, else one by one."""
        if not all(map(_may_be_vectorized, pack)):
            return [self._to_the_end(trial) for trial in pack]
        try:
            return self._train_together(pack)
        except Exception as error:  # noqa: BLE001 - whatever it is, the trials may be trained without
            reason = _words(error)
        return [self._to_the_end(trial) | {ONE_BY_ONE: reason} for trial in pack]

    def _train_together(self, pack: Sequence[TrialConfig]) -> list[dict[str, object]]:
        configs = [_configs(trial) for trial in pack]
        if len({_key(own[0]) for own in configs}) > 1:
            raise ConfigError("its trials differ in the trainable's own config")
        task = self._task(configs[0][0])
        reason = self._stacking.why_not(task, [config for own in configs for config in own])
        if reason is not None:
            raise ConfigError(reason)
        trials = [
            Replication(task, own, self._folder_of(trial), keeps=self._keeps)
            for own, trial in zip(configs, pack, strict=True)
        ]
        ends = train_together(task, trials)
        return [_failure(end, self._folder) if isinstance(end, Exception) else _result(end) for end in ends]

    def _to_the_end(self, config: TrialConfig) -> dict[str, object]:
        """Train a trial and return its last result, whichever way it ends."""
        self._begin(config)
        while True:
            result = self._advance()
            if result[DONE]:
                return result

    def _advance(self) -> dict[str, object]:
        try:
            if self._replication is None:
                self._replication = self._replicate()
            judgement = self._replication.advance()
        except Exception as error:  # noqa: BLE001 - whatever the trainable's code raises
            self._release()
            return _failure(error, self._folder)
        if judgement.paused:  # if it goes on here, then like anywhere else: what it is may have changed
            self._replication, self._resumes = None, True
        return _result(judgement)

    def _take(self, given: TrialConfig | PackConfig) -> None:
        self._release()
        self._pack: list[TrialConfig] = json.loads(given["pack"]) if "pack" in given else []
        if "pack" not in given:
            self._begin(given)

    def cleanup(self) -> None:
        """End what still trains."""
        self._release()

    def _begin(self, config: TrialConfig) -> None:
        self._config = config
        self._release()
        self._resumes = config.get("resumes", False)

    def _release(self) -> None:
        if self._replication is not None:
            self._replication.close()
        self._replication = None

    def _replicate(self) -> Replication | NestedReplication:
        folder, configs = self._folder_of(self._config), _configs(self._config)
        if configs[0].placement == "ray":
            return NestedReplication(self._reference, configs, folder, keeps=self._keeps)
        if self._resumes:
            configs = paused_configs(folder, [config.seed for config in configs])
        torch.set_num_threads(configs[0].threads or 1)
        task = self._task(configs[0])
        return Replication(task, configs, folder, pauses=self._pauses, resumes=self._resumes, keeps=self._keeps)

    def _folder_of(self, config: TrialConfig) -> Path:
        return self._folder / f"{config['number']:05d}"

    def _task(self, config: RunConfig) -> Task:
        """Return the trial's task; the last one is kept, since most sweeps have only one."""
        key = _key(config)
        if key not in self._tasks:
            self._tasks = {key: config.judged(resolve(self._reference).build(config.trainable_config))}
        return self._tasks[key]


def _may_be_vectorized(trial: TrialConfig) -> bool:
    runs: list[Mapping[str, object]] = json.loads(trial["runs"])
    return all(run.get("vectorize", "never") != "never" for run in runs)


def _key(config: RunConfig) -> str:
    """Return what decides which task a run trains."""
    return json.dumps([config.trainable_config, config.holdout], sort_keys=True)


def _configs(trial: TrialConfig) -> list[RunConfig]:
    runs: list[Mapping[str, object]] = json.loads(trial["runs"])
    return [RunConfig(**run) for run in runs]


def _result(judgement: Judgement) -> dict[str, object]:
    return {
        **judgement.values,
        ERRORS: json.dumps(dict(judgement.errors)),
        GRADIENTS: judgement.gradients,
        FINISHED: judgement.finished,
        PAUSED: judgement.paused,
        DONE: judgement.finished,
    }


def _failure(error: Exception, folder: Path) -> dict[str, object]:
    full = is_full(error)
    words = full_disk(folder) if full else _words(error)
    return {FAILED: words, DIVERGED: isinstance(error, DivergedError), DISK_FULL: full, DONE: True}


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, DeepRelaxError) else f"{type(error).__name__}: {error}"
