"""What a sweep is: what all its drivers agree on, and what each decides for itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deeprelax.config import RunConfig
from deeprelax.errors import ConfigError
from deeprelax.tuning.study.terms import Direction, Terms
from deeprelax.tuning.sweep.schedulers import PBT, known_scheduler
from deeprelax.validation import config_error

OWN = ("trainable", "trainable_config", "coupling", "method", "placement", "holdout", "report", "threads", "address")
"""Fields of a run that the sweep sets, so a user's ``run`` may not."""


class SweepConfig(BaseModel):
    """What all drivers of a sweep agree on. The study keeps it, so a sweep goes on from the study alone.

    Args:
        trainable: a registered name, ``module:function`` or ``file.py:function``.
        trainable_config: fields of the trainable's own config, complete.
        space: the search space's name, ``module:name``, or file.
        minimize: objectives to make small: ``center/error``, another ``center/…`` metric of the trainable,
            ``bytes_exchanged``, ``seconds`` (one run's, busy) or ``gradient_evaluations_total``.
        maximize: objectives to make large.
        trials: of all drivers together; with ``sampler="grid"`` as many as the space has points.
        sampler: tpe, gp, cmaes, nsga2, nsga3, random, or grid for a space without continuous parameters.
        sampler_seed: of the suggestions.
        scheduler: what stops trials early: none, asha, hyperband or median; or ``pbt``, population-based training: see
            :mod:`deeprelax.tuning.sweep.population`.
        population: trials that one driver trains side by side under ``pbt``, taking turns if they are more than fit;
            when all of them have ended, it begins the next ones.
        keep_best: how many of the best trials keep their last checkpoint.
        seeds: runs of every trial, with the seeds ``seed``, ``seed + 1``, …; their mean is the trial's value.
        holdout: share of the training data that is not trained on and that trials are judged by. 0 judges by the test
            set, which is then no test any more.
        max_gradients: mini-batch gradients of all trials together after which no trial begins.
        cpus_per_trial: cores a trial reserves if its replicas take turns in one process.
        gpus_per_trial: GPUs likewise.
        coupling: fields of the coupling that every trial has, whatever the space says.
        run: further fields of :class:`~deeprelax.config.RunConfig` likewise, such as ``epochs`` and ``seed``, and what
            each worker reserves if replicas have one: ``cpus_per_replica``, ``gpus_per_replica``. The first one, or
            else ``cpus_per_trial``, is the number of torch's threads, wherever a trial is placed.

    Raises:
        ConfigError: one line for every wrong field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trainable: str
    trainable_config: dict[str, object] = Field(default_factory=dict)
    space: str
    minimize: tuple[str, ...] = ()
    maximize: tuple[str, ...] = ()
    trials: int = Field(default=50, ge=1)
    sampler: str = "tpe"
    sampler_seed: int = Field(default=0, ge=0)
    scheduler: str = "none"
    population: int = Field(default=8, ge=2)
    keep_best: int = Field(default=0, ge=0)
    seeds: int = Field(default=1, ge=1)
    holdout: float = Field(default=0.2, ge=0, lt=1)
    max_gradients: int | None = Field(default=None, ge=1)
    cpus_per_trial: float = Field(default=1.0, gt=0)
    gpus_per_trial: float = Field(default=0.0, ge=0)
    coupling: dict[str, object] = Field(default_factory=dict)
    run: dict[str, object] = Field(default_factory=dict)

    def __init__(self, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise config_error(error, "the sweep", type(self).model_fields) from None
        RunConfig(trainable=self.trainable, **self.run)  # checks its fields
        if self.scheduler != "none" and len(self.metrics) > 1:
            raise ConfigError(
                f"Invalid scheduler={self.scheduler!r} for the objectives {', '.join(self.metrics)}. Must be none: a "
                "scheduler ranks unfinished trials by one number. Give one objective, or leave the scheduler out."
            )

    @field_validator("scheduler")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_scheduler(name)

    @field_validator("run")
    @classmethod
    def _free(cls, fields: dict[str, object]) -> dict[str, object]:
        taken = sorted(fields.keys() & set(OWN))
        if taken:
            raise ConfigError(f"Must not hold {taken[0]!r}: the sweep sets it.")
        return fields

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the objectives."""
        return (*self.minimize, *self.maximize) or ("center/error",)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Return the direction of each objective."""
        return tuple("maximize" if metric in self.maximize else "minimize" for metric in self.metrics)

    @property
    def pauses(self) -> bool:
        """Return whether trials pause at their evaluations."""
        return self.scheduler == PBT

    @property
    def seed(self) -> int:
        """Return the first seed of every trial."""
        return RunConfig(trainable=self.trainable, **self.run).seed

    def requested(self, suggested: Mapping[str, object], *, holdout: float) -> RunConfig:
        """Return the run that a suggestion means; what the user has fixed wins over the suggestion.

        Args:
            suggested: fields of a run, as a search space returns them.
            holdout: the sweep's while it chooses, 0 for the run at its end.

        Raises:
            ConfigError: a field is unknown or out of range.
        """
        inner = {
            name: {**_mapping(suggested, name), **own}
            for name, own in (("coupling", self.coupling), ("trainable_config", self.trainable_config))
        }
        return RunConfig(
            **{
                **suggested,
                **self.run,
                **inner,
                "trainable": self.trainable,
                "holdout": holdout,
                "placement": "local",
                "threads": max(1, int(float(str(self.run.get("cpus_per_replica", self.cpus_per_trial))))),
            }
        )

    def terms(self, space: Mapping[str, object]) -> Terms:
        """Return the terms of the study.

        Args:
            space: the described search space.

        Raises:
            ConfigError: the sampler is unknown, or does not take several objectives.
        """
        return Terms(
            metrics=self.metrics,
            directions=self.directions,
            space=space,
            trials=self.trials,
            sampler=self.sampler,
            seed=self.sampler_seed,
            settings=self.model_dump(mode="json"),
        )

    @classmethod
    def of_study(cls, terms: Terms) -> Self:
        """Return what the drivers of a study have agreed on.

        Raises:
            ConfigError: the study was not made by a sweep.
        """
        if "trainable" not in terms.settings:
            raise ConfigError("Invalid study: it holds trials, but no sweep. Start the sweep under another --name.")
        return cls(**terms.settings)


def _mapping(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    inner = fields.get(name, {})
    assert isinstance(inner, Mapping), "a search space returns fields of a run"
    return inner
