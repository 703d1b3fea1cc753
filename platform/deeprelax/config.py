"""The complete description of one run: what is trained, how the replicas are coupled, how long, and where."""

from __future__ import annotations

import os
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.methods import make_coupling
from deeprelax.errors import ConfigError
from deeprelax.flatness.measure import measure, refuse_unmeasurable
from deeprelax.replica.holdout import hold_out
from deeprelax.replica.loop import Plan
from deeprelax.replica.population import PopulationConfig
from deeprelax.replica.start import batches_of
from deeprelax.replica.task import Task
from deeprelax.schedules import Position
from deeprelax.validation import config_error

Placement = Literal["ray", "local"]
Extra = Literal["replicas", "ensemble"]
_STABILITY_POINTS = 200
_SMALL_MODEL = 100_000


def _distinct(values: tuple[Extra, ...]) -> tuple[Extra, ...]:
    return tuple(dict.fromkeys(values))


class RunConfig(BaseModel):
    """A run; complete once :meth:`resolved` has filled in what the task decides. Written beside every result.

    Args:
        trainable: a registered name, ``module:function`` or ``file.py:function``.
        trainable_config: fields of the trainable's own config.
        method: the coupling's name, such as ``parle``.
        coupling: its fields; schedules as text.
        population: replicas hold different settings of some schedules, and the better ones' spread along the run; see
            :mod:`deeprelax.replica.population`. None: all replicas keep the coupling's.
        epochs: data passes of each replica, > 0.
        steps: mini-batch steps of each replica; overrides ``epochs``.
        batch_size: samples of a step; None takes the task's.
        accumulate: parts a batch is computed in.
        clip_norm: largest gradient norm.
        precision: ``float32``, or ``bf16`` autocast.
        seed: of everything random.
        placement: ``ray`` (a worker process per replica), or ``local`` (all replicas take turns in this process).
        vectorize: whether replicas in one process are computed together, a step of all of them in one call: ``never``,
            ``auto`` (where it can be done and pays) or ``always`` (an error says why it cannot be done). The numbers
            are then equal to rounding, not bit for bit; the same setting gives the same numbers.
        exchange: how messages travel on Ray: ``server`` (through Ray), ``shared_memory`` (through memory
            shared with the center server; an error where a replica is on another machine) or ``auto`` (that, where it
            can be). The numbers are the same.
        threads: of torch, per replica; None: 1 for models under 100,000 parameters, else cores // replicas, at least 1.
            The same number of threads gives the same numbers everywhere.
        evaluate_every: data passes between evaluations of the center.
        checkpoint_every: data passes between checkpoints; 0 saves only at the end.
        keep_checkpoints: how many to keep.
        report: judge the ``replicas`` and their ``ensemble`` too, at the end.
        flatness: measure how flat the loss is around the center, see :mod:`deeprelax.flatness`: ``never``, with the
            evaluation at the ``end``, or with ``every`` one.
        holdout: share of the training data that is not trained on but judged, in the place of the test set; in [0, 1).
        cpus_per_replica: CPUs a worker asks Ray for.
        gpus_per_replica: GPUs a worker asks Ray for; None: 1 if the cluster has enough, else 0.
        address: of a running Ray cluster; None starts one on this machine.
        max_failures: lost workers that are replaced before the run gives up; likewise deaths of a center server, and
            weights that are refused because they are not finite or absurdly far from the center.
        min_replicas: the run starts with so many replicas and grows to the coupling's ``replicas`` as the cluster has
            room; None waits for all.

    Raises:
        ConfigError: one line for every wrong field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trainable: str
    trainable_config: dict[str, object] = Field(default_factory=dict)
    method: str = "parle"
    coupling: dict[str, object] = Field(default_factory=dict)
    population: PopulationConfig | None = None
    epochs: float = Field(default=10.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    accumulate: int = Field(default=1, ge=1)
    clip_norm: float | None = Field(default=None, gt=0)
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = Field(default=0, ge=0)
    placement: Placement = "ray"
    vectorize: Literal["never", "auto", "always"] = "never"
    exchange: Literal["auto", "server", "shared_memory"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    evaluate_every: float = Field(default=1.0, gt=0)
    checkpoint_every: float = Field(default=1.0, ge=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    report: Annotated[tuple[Extra, ...], AfterValidator(_distinct)] = ()
    flatness: Literal["never", "end", "every"] = "never"
    holdout: float = Field(default=0.0, ge=0, lt=1)
    cpus_per_replica: float = Field(default=1.0, gt=0)
    gpus_per_replica: float | None = Field(default=None, ge=0)
    address: str | None = None
    max_failures: int = Field(default=3, ge=0)
    min_replicas: int | None = Field(default=None, ge=1)

    def __init__(self, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise config_error(error, "the run", type(self).model_fields) from None

    def with_fields(self, **changes: object) -> Self:
        """Return a copy with some fields changed, validated again."""
        return type(self)(**(self.model_dump() | changes))

    def make_coupling(self) -> Coupling:
        """Return the validated config of the method.

        Raises:
            ConfigError: the method or its fields are unknown or impossible.
        """
        return make_coupling(self.method, self.coupling)

    def judged(self, task: Task) -> Task:
        """Return the trainable's task as this run sees it: with ``holdout``, judged on a part of its training data.

        Raises:
            ConfigError: the part is empty, or all there is.
        """
        return hold_out(task, self.holdout)

    def resolved(self, task: Task, *, force: bool = False) -> Self:
        """Return the config with everything the task decides filled in, checked for stability.

        Args:
            task: the task that is trained; see :meth:`judged`.
            force: train with springs past their stability bound too.

        Raises:
            ConfigError: the batch size exceeds the data, flatness is asked of a model that is not smooth enough, or the
                replicas cannot form the population.
            UnstableError: a spring is too stiff somewhere along the run.
        """
        coupling = self.make_coupling()
        optimizer = coupling.optimizer or task.optimizer
        coupling = coupling.with_fields(lr=coupling.lr or f"cos({task.lr},0)", optimizer=optimizer)
        batch_size = self.batch_size or task.batch_size
        if batch_size > len(task.train_data):
            raise ConfigError(
                f"Invalid batch_size={batch_size}. Must be at most the {len(task.train_data)} training samples."
            )
        if self.vectorize == "always" and self.placement == "ray":
            raise ConfigError(
                "Invalid vectorize='always'. Must be 'auto' or 'never' on Ray, where each replica has a process of its"
                " own; or train in this process (local=True, --local)."
            )
        if self.exchange != "auto" and self.placement == "local":
            raise ConfigError(
                f"Invalid exchange={self.exchange!r}. Must be 'auto' in one process (local=True, --local)."
            )
        if self.exchange == "shared_memory" and coupling.sends == "elastic":
            raise ConfigError("Invalid exchange='shared_memory' with mode='async'. Must be 'auto' or 'server'.")
        if self.min_replicas is not None:
            self._refuse_growth(coupling)
        if self.flatness != "never":
            refuse_unmeasurable(task)
        batches = batches_of(task, coupling, batch_size, self.seed, 0)
        steps = self.steps or max(1, round(self.epochs * batches.steps_per_pass))
        if self.population is not None:
            self.population.refuse_impossible(coupling, steps, self.holdout)
        start = Position(steps_per_pass=batches.steps_per_pass, total_steps=steps)
        if not force:
            period = max(1.0, coupling.period.values[0])
            coupling.check_stable(start.ahead(period, _STABILITY_POINTS))
        return self.with_fields(
            coupling=coupling.model_dump(),
            batch_size=batch_size,
            steps=steps,
            epochs=steps / batches.steps_per_pass,
            threads=self.threads or _threads(task, coupling.replicas),
        )

    def _refuse_growth(self, coupling: Coupling) -> None:
        """Raise :class:`ConfigError` where replicas cannot come and go."""
        given = f"Invalid min_replicas={self.min_replicas}"
        if self.placement == "local":
            raise ConfigError(f"{given}. Must be left out with local=True (--local): in one process all are there.")
        if (self.min_replicas or 0) > coupling.replicas:
            raise ConfigError(f"{given}. Must be at most the coupling's replicas={coupling.replicas}.")
        if not coupling.survives_loss:
            raise ConfigError(
                f"{given}. Must be left out for {coupling.method()} with these schedules: its replicas start and stop"
                " together."
            )

    def plan(self, task: Task) -> Plan:
        """Return what the training loop needs of a resolved config."""
        assert self.steps is not None, "resolve the config first"
        assert self.batch_size is not None, "resolve the config first"
        per_pass = batches_of(task, self.make_coupling(), self.batch_size, self.seed, 0).steps_per_pass
        return Plan(
            total_steps=self.steps,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            clip_norm=self.clip_norm,
            precision=self.precision,
            seed=self.seed,
            evaluate_every_steps=max(1, round(self.evaluate_every * per_pass)),
            checkpoint_every_steps=round(self.checkpoint_every * per_pass),
            report=self.report,
            measure_flatness=None if self.flatness == "never" else _flatness,
            flatness="every" if self.flatness == "every" else "end",
            population=self.population,
        )

    def job(self) -> dict[str, object]:
        """Return the config as plain JSON values."""
        values: dict[str, object] = self.model_dump(mode="json")
        return values


def _flatness(model: nn.Module, task: Task) -> dict[str, float]:
    return measure(model, task).metrics()


def _threads(task: Task, replicas: int) -> int:
    with torch.random.fork_rng(devices=[]):
        size = sum(parameter.numel() for parameter in task.model().parameters())
    return 1 if size < _SMALL_MODEL else max(1, (os.cpu_count() or 1) // replicas)
