"""What every method is: a frozen config and the rules that it gives a replica.

A method is described by where its pieces stand in one loop:

1. a mini-batch gradient at the fast weights y;
2. ``local_step``: y moves by the gradient, the method's spring, and noise; a running average follows;
3. every ``period`` steps an exchange: ``outer_step`` moves the slow weights, ``message`` travels, the center moves by
   ``center_step``, and ``receive`` takes the new center in.

All state is in the named vectors of :class:`~deeprelax.coupling.weights.Weights`, so the rules are plain functions of
(config, vectors, values of the schedules) and a checkpoint is those vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from torch import Tensor

from deeprelax.coupling.codec import Codec
from deeprelax.coupling.fields import CodecField, Momentum, PeriodField, Rate
from deeprelax.coupling.inner import OPTIMIZERS, Force, Inner, OptionValue, SpringMode, make_optimizer
from deeprelax.coupling.message import CenterStep, Kind
from deeprelax.coupling.stability import require_stable
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError, nearest
from deeprelax.schedules import Position, Schedule
from deeprelax.validation import config_error

OVERLAPPED = "overlapped"
"""The vector of :meth:`Coupling.depart`: the weights when the message left and, once it is answered, the center.

With fragments, too, it holds the center where the method has no vector of its own for that.
"""

Knobs = Mapping[str, float]
"""The values of a coupling's schedules at one step by field name, and those of :data:`NO_SCHEDULES`."""

NO_SCHEDULES = ("elapsed", "exchanges", "final")
"""Steps since the last exchange; completed exchanges; 1 at the last step of a run, else 0."""


class Coupling(BaseModel):
    """Fields common to all methods.

    Args:
        replicas: n, coupled copies of the weights, >= 1.
        period: L, mini-batch steps between two exchanges (or outer steps), >= 1.
        lr: η', step of the fast weights; None takes the trainable's own rate, on a cosine to 0.
        momentum: m of the fast weights (SGD), in [0, 1).
        nesterov: torch's Nesterov form of the momentum (SGD).
        weight_decay: added to the mini-batch gradient (SGD).
        optimizer: ``sgd`` (default) or a torch optimizer by name: adam, adamw, adagrad, nadam, radam, rmsprop; None
            takes the trainable's.
        optimizer_options: further arguments of a torch optimizer, such as ``{"betas": [0.9, 0.95]}``.
        spring: whether the spring is part of the gradient and so of the momentum (``coupled``) or a step of its own
            (``decoupled``).
        momentum_policy: whether the momentum of the fast weights is kept at an exchange (``keep``) or zeroed
            (``reset``).
        start: replicas start from the same weights, from the same weights plus noise, or from independent
            initializations.
        start_noise: standard deviation of that noise.
        batchnorm: BatchNorm statistics of the center: ``recalibrate`` by a pass over training data (as the papers do),
            ``average`` of the replicas', or replica 0's (``local``).
        data: every replica sees all data in its own order (``all``, Parle), its own part (``shards``), or a part that
            overlaps with the others' (``overlap``).
        data_fraction: size of that part as a fraction of all data (``overlap``), in (0, 1].
        codec: what travels: the vectors as they are (``float32``), or differences in fewer bytes (``bf16``, ``int8``,
            ``int4``, ``topk(0.01)``); what a message leaves out is added to the next one. Two copies of the parameters
            on each replica and one where the center lives. One replica sends nothing and codes nothing. ``topk`` suits
            messages that are movements (local SGD, DiLoCo, gradients), not replicas that stay apart (Parle, EASGD).
        overlap: τ, mini-batch steps that a replica goes on while its message travels, < period; the reply is taken in
            exactly τ steps later, < period/fragments. 0 waits.
        fragments: F; instead of all weights every ``period`` steps, the next F-th of them every period/F steps, so a
            link carries as many bytes at a more even pace. An exchange is then that of a fragment; all of the weights
            are exchanged at the end of the run.

    Raises:
        ConfigError: one line for every unknown or impossible field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    replicas: int = Field(default=1, ge=1)
    period: PeriodField = Schedule(start=25)
    lr: Rate | None = None
    momentum: Momentum = 0.9
    nesterov: bool = True
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    optimizer: str | None = None
    optimizer_options: dict[str, OptionValue] = Field(default_factory=dict)
    spring: SpringMode = "coupled"
    momentum_policy: Literal["keep", "reset"] = "keep"
    start: Literal["same", "noise", "independent"] = "same"
    start_noise: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    batchnorm: Literal["recalibrate", "average", "local"] = "recalibrate"
    data: Literal["all", "shards", "overlap"] = "all"
    data_fraction: float = Field(default=0.5, gt=0, le=1)
    codec: CodecField = None
    fragments: int = Field(default=1, ge=1)
    overlap: int = Field(default=0, ge=0)

    exchanges: ClassVar[Literal["gradient", "weights"]] = "weights"
    """Where an exchange stands: before the local step, with the gradient at hand, or after it."""
    kind: ClassVar[Kind] = "center"
    ranked: ClassVar[bool] = False
    """True for methods whose center is the best replica, by its loss since the last exchange, and not the mean."""
    whole: ClassVar[bool] = False
    """True for methods of groups or leaders: a message is all of a replica, as it is, and the replica waits for it."""
    single_replica: ClassVar[bool] = False
    """True for methods that are defined for one replica only."""

    def __init__(self, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise config_error(error, f"coupling {type(self).method()!r}", type(self).model_fields) from None

    @property
    def sends(self) -> Kind:
        """The kind of this method's messages."""
        return self.kind

    @property
    def max_ahead(self) -> int:
        """Exchanges that a replica with a clock of its own may be ahead of the slowest."""
        return 0

    @field_validator("replicas")
    @classmethod
    def _one_if_single(cls, replicas: int) -> int:
        if cls.single_replica and replicas != 1:
            raise ConfigError(f"Must be 1: {cls.method()} has one replica; its coupled form is parle.")
        return replicas

    @field_validator("optimizer")
    @classmethod
    def _known(cls, optimizer: str | None) -> str | None:
        known = ("sgd", *OPTIMIZERS)
        if optimizer not in (None, *known):
            raise ConfigError(f"Must be one of {', '.join(known)}.{nearest(str(optimizer), known)}")
        return optimizer

    @field_validator("optimizer_options")
    @classmethod
    def _accepted(cls, options: dict[str, OptionValue], info: ValidationInfo) -> dict[str, OptionValue]:
        optimizer = str(info.data.get("optimizer"))
        if optimizer == "sgd" and options:
            raise ConfigError("Must be empty: sgd takes momentum, nesterov and weight_decay.")
        if optimizer in OPTIMIZERS:
            if info.data.get("weight_decay"):
                raise ConfigError(f"Must hold weight_decay for {optimizer}: the field weight_decay is sgd's.")
            make_optimizer(optimizer, [torch.nn.Parameter(torch.zeros(1))], options)
        return options

    @field_validator("codec")
    @classmethod
    def _understood(cls, codec: Codec | None) -> Codec | None:
        if codec is not None and cls.whole:
            raise ConfigError(
                f"Must be float32: a codec says the difference to one center, and {cls.method()} tells of groups or"
                " leaders, too."
            )
        return codec

    @field_validator("fragments")
    @classmethod
    def _divides(cls, fragments: int, info: ValidationInfo) -> int:
        if fragments > 1 and cls.whole:
            raise ConfigError(f"Must be 1: groups and leaders of {cls.method()} are formed of whole replicas.")
        if fragments > 1 and (cls.kind == "mean" or cls.single_replica):
            raise ConfigError(f"Must be 1: {cls.method()} exchanges everything or nothing.")
        if fragments > 1 and info.data.get("momentum_policy") == "reset":
            raise ConfigError("Must be 1 with momentum_policy=reset, which drops the momentum of all weights at once.")
        period = info.data.get("period")
        if isinstance(period, Schedule) and fragments > min(period.values):
            raise ConfigError(f"Must be at most {min(period.values):g}, the shortest period.")
        return fragments

    @field_validator("overlap")
    @classmethod
    def _possible(cls, overlap: int, info: ValidationInfo) -> int:
        if overlap and cls.whole:
            raise ConfigError(f"Must be 0: a replica of {cls.method()} goes on from its group or leader, and waits.")
        if overlap and cls.kind == "mean":
            raise ConfigError(f"Must be 0: a replica of {cls.method()} cannot step before it has the mean gradient.")
        if overlap and cls.single_replica:
            raise ConfigError(f"Must be 0: {cls.method()} has one replica, which waits for nobody.")
        period = info.data.get("period")
        parts = int(info.data.get("fragments", 1))
        shortest = round(min(period.values) / parts) if isinstance(period, Schedule) else math.inf
        if overlap and overlap >= shortest:
            raise ConfigError(f"Must be < {shortest}, the shortest time between exchanges: one travels at a time.")
        return overlap

    @classmethod
    def method(cls) -> str:
        """Return the method's name on the command line, such as ``entropy_sgd``."""
        return cls.__module__.rpartition(".")[2]

    def with_fields(self, **changes: object) -> Self:
        """Return a copy with some fields changed, validated again."""
        return type(self)(**(self.model_dump() | changes))

    @property
    def survives_loss(self) -> bool:
        """Whether a lost replica can start again from the center alone.

        Otherwise the whole group goes back to a checkpoint: a spring balanced by measurement is not in the center.
        """
        return all(schedule.shape != "auto" for schedule in self.schedules().values())

    @property
    def survives_server_loss(self) -> bool:
        """Whether the replicas can tell a restarted center server what it knew.

        Otherwise the run ends: with a codec or fragments no reply holds the whole center.
        """
        return self.codec is None and self.fragments == 1

    def schedules(self) -> dict[str, Schedule]:
        """Return the fields that are schedules."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if isinstance(value, Schedule)}

    def knobs(self, position: Position) -> Knobs:
        """Return the values of all schedules at ``position``."""
        return {name: schedule.at(position) for name, schedule in self.schedules().items()}

    @property
    def vectors(self) -> tuple[str, ...]:
        """Vectors kept beside the fast weights and their gradient: the method's memory, in copies of the parameters.

        The inner optimizer adds its own: one for SGD with momentum, two for Adam.
        """
        return (OVERLAPPED,) if self.overlap or self.fragments > 1 else ()

    def begin(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        """Set the vectors at the start of a run, or of a replica that joins later, from the center.

        ``w.fast`` holds the replica's own start (a newcomer's equals the center); the vectors named in ``vectors`` are
        there, zero.
        """

    def force(self, knobs: Knobs) -> Force:
        """Return what is added to the mini-batch gradient at this step."""
        return Force()

    def local_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        """Move the fast weights by one mini-batch gradient, in ``w.grad`` of each group of ``weights``."""
        inner.step(weights, self.force(knobs), knobs["lr"], generator)

    def outer_step(self, weights: Sequence[Weights], knobs: Knobs, inner: Inner, generator: torch.Generator) -> None:
        """Move the slow weights; before the message is sent. The gradients are used up and serve as scratch."""

    def message(self, w: Weights) -> Tensor:
        """Return the vector that travels."""
        return w.fast

    def center_step(self, knobs: Knobs) -> CenterStep:
        """Return how the center moves towards the mean of the messages."""
        return CenterStep()

    def group(self, index: int) -> int | None:
        """Return the group of replica ``index``, if its members exchange a mean of their own."""
        return None

    def receive_group(self, w: Weights, mean: Tensor, knobs: Knobs) -> None:
        """Take in the mean of the group, before :meth:`receive` takes in the center; ``mean`` is read-only."""

    def receive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        """Take in the new center (or the mean, if ``kind`` is ``mean``); ``center`` is read-only."""

    def depart(self, w: Weights) -> None:
        """Note, once the message has left and before steps overlap with it, what :meth:`arrive` needs.

        A method whose ``receive`` does not depend on the new center, but for keeping it, does the rest of it here and
        in :meth:`arrive` keeps the center: it then loses nothing by the overlap.
        """
        w.keep(OVERLAPPED).copy_(w.fast)

    def arrive(self, w: Weights, center: Tensor, knobs: Knobs, generator: torch.Generator) -> None:
        """Take in the center that comes ``overlap`` steps after the message has left; ``center`` is read-only.

        y_{t+τ} ← R(y_t, x̄) + (y_{t+τ} - y_t), R being :meth:`receive`: the steps made meanwhile are kept, as if made
        from where the reply would have led, to first order in them. No step is lost or counted twice, because what
        the next message says of them is counted from x̄. The gradients are used up and serve as scratch.
        """
        progress = torch.sub(w.fast, w[OVERLAPPED], out=w.grad)
        w.fast.copy_(w[OVERLAPPED])
        self.receive(w, center, knobs, generator)
        w[OVERLAPPED].copy_(self.center(w))
        w.fast.add_(progress)

    def center(self, w: Weights) -> Tensor:
        """Return the center as this replica knows it right after an exchange."""
        return w.fast

    def inner_spring(self) -> str | None:
        """Return the field that holds the spring of the local step, if the method has one."""
        return None

    def balanced(self, stiffness: float) -> Self:
        """Return this config with the measured stiffness in its ``auto`` schedule."""
        waiting = {name: value.balanced(stiffness) for name, value in self.schedules().items() if value.awaits_balance}
        return self.with_fields(**waiting)

    def check_stable(self, positions: Sequence[Position]) -> None:
        """Refuse springs that are too stiff for the step anywhere on ``positions``.

        Raises:
            UnstableError: names the field, the bound and where it is crossed.
        """
        spring = self.inner_spring()
        if spring and not (self.spring == "coupled" and (self.optimizer or "sgd") != "sgd"):
            momentum = self.momentum if self.spring == "coupled" else 0.0
            require_stable(self, positions, step="lr", spring=spring, momentum=momentum)

    def dimensionless(self, knobs: Knobs) -> dict[str, float]:
        """Return what the springs amount to, whatever the units of the weights.

        ``kappa_in`` = η'L/γ tells how far the inner chain relaxes in a period (1e-4: the spring is inert),
        ``kappa_out`` =
        η/ρ which part of its gap to the center a replica closes per exchange.
        """
        ratios: dict[str, float] = {}
        if "gamma" in knobs:
            ratios["kappa_in"] = knobs["lr"] * knobs["period"] / knobs["gamma"]
        if "rho" in knobs:
            ratios["kappa_out"] = knobs.get("outer_lr", knobs["lr"]) / knobs["rho"]
        return ratios
