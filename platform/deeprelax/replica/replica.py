"""One coupled copy of the weights: the method's rules applied to a model, without knowing how messages travel."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deeprelax.coupling.base import NO_SCHEDULES, OVERLAPPED, Coupling, Knobs
from deeprelax.coupling.message import CenterStep, Kind, Message, Reply
from deeprelax.errors import ConfigError
from deeprelax.replica.adaptation import Adaptation, Losses
from deeprelax.replica.flat import FlatModel
from deeprelax.replica.flight import Flight
from deeprelax.replica.fragments import Fragments
from deeprelax.replica.inner_optimizer import inner_of
from deeprelax.replica.line import UNSAID, Line
from deeprelax.replica.local_step import LocalStep
from deeprelax.replica.saved import refuse_others
from deeprelax.replica.seeds import derived_seed
from deeprelax.replica.telemetry import Probe
from deeprelax.schedules import Position

T = TypeVar("T")
Steps = Generator[Message, Reply, T]
"""A piece of a replica's loop: yields messages, is sent replies, returns T."""


class Replica:
    """A model bound to flat weights that moves by a coupling's rules.

    The caller computes gradients (``backward``) and runs the generators that :meth:`join`, :meth:`step` and
    :meth:`finish` return, carrying each message to the other replicas and sending the reply back in.

    Memory in copies of the parameters, gradients included: 2 + ``len(coupling.vectors)`` + the inner optimizer's (1 for
    SGD with momentum, 2 for Adam) + 2 with a codec.

    Args:
        model: on its device; its parameters become views of flat storage, unless they are already.
        coupling: the method's config; ``lr`` must be set unless ``optimizer`` is given.
        index: a in 0..n-1.
        seed: of the noise; replicas draw different noise from one seed.
        optimizer: a user's own inner optimizer over ``model.parameters()``; its learning rate is left to the user.
        steps_per_pass: mini-batches in one data pass, for schedules in passes.
        total_steps: mini-batches in the run, for schedules in fractions of it.
        make_later: takes the local steps that may wait until the next gradient is computed; None makes each at once.

    Attributes:
        extras: flat vectors that are averaged along with the weights; may be set before the first message.
        adaptation: this replica's part in a population; None keeps the coupling's schedules as they are.
    """

    def __init__(
        self,
        model: nn.Module | FlatModel,
        coupling: Coupling,
        *,
        index: int = 0,
        seed: int = 0,
        optimizer: Optimizer | None = None,
        steps_per_pass: int | None = None,
        total_steps: int | None = None,
        make_later: Callable[[LocalStep], None] | None = None,
    ) -> None:
        if coupling.lr is None and optimizer is None:
            raise ConfigError(f"Missing field 'lr' of {coupling.method()}. Give lr=0.05 or lr='cos(0.05,0)'.")
        if coupling.fragments > 1 and any(schedule.shape == "auto" for schedule in coupling.schedules().values()):
            raise ConfigError("Invalid fragments with rho=auto(...). Must be 1: a spring is balanced over all weights.")
        self.flat = model if isinstance(model, FlatModel) else FlatModel(model)
        self.weights = self.flat.weights
        self.coupling = coupling
        self.index = index
        self.inner = inner_of(coupling, self.flat, optimizer)
        self.position = Position(steps_per_pass=steps_per_pass, total_steps=total_steps)
        self.elapsed = 0
        self.extras: tuple[Tensor, ...] = ()
        self.adaptation: Adaptation | None = None
        self.probe = Probe()
        self._measuring = False
        self._flight: Flight | None = None
        self._center_waits = False
        self._loss_before: Losses = (0.0, 0)
        self._make_later = make_later
        several = coupling.replicas > 1
        self._line = Line(coupling.codec, [w.fast for w in self.weights]) if several and coupling.codec else None
        self._noise = torch.Generator(self.weights[0].fast.device).manual_seed(derived_seed(seed, "noise", index))
        for w in self.weights:
            for name in coupling.vectors:
                w.keep(name)
        self._fragments = Fragments(self.weights, coupling.fragments)
        coupling.knobs(self.position)

    def adapt(self, adaptation: Adaptation) -> None:
        """Hold settings of its own from the start on, and exchange them with the other replicas at decisions."""
        self.adaptation = adaptation
        self.coupling = adaptation.coupling

    def join(self) -> Steps[Reply]:
        """Meet the other replicas. In a run that is elsewhere than this replica, start from its center."""
        position = self.position
        reply = yield self._message("join", [w.fast for w in self.weights], step=position.step)
        if self._line is not None:
            self._line.begin(reply.vectors)
        left_at = position.step - self.elapsed
        if position.step == 0 or (reply.step, reply.exchanges) != (left_at, position.exchanges):
            self.adopt(reply)
        return reply

    def adopt(self, reply: Reply) -> None:
        """Go to the run's position; at a position later than the start take the center as the weights."""
        if reply.step:
            count = len(self.weights)
            self.flat.load(reply.vectors[:count])
            for extra, mean in zip(self.extras, reply.vectors[count:], strict=True):
                extra.copy_(mean)
            self.inner.forget(self.weights)
            for w in self.weights:
                for name in self.coupling.vectors:
                    w[name].zero_()
        if self._line is not None:
            self._line.begin(reply.vectors)
            self._line.forget()
        self._move_to(reply.step, reply.exchanges)
        self._count_from(0)
        if reply.step and self.adaptation is not None:
            self.coupling = self.adaptation.rejoin(self.probe.losses(), self.position)
        knobs = self._knobs()
        for w, center in zip(self.weights, reply.vectors, strict=False):
            self.coupling.begin(w, center, knobs, self._noise)
            if OVERLAPPED in w:
                w[OVERLAPPED].copy_(center)

    def step(self, loss: Tensor | None = None) -> Steps[Reply | None]:
        """Take one step with the gradients at hand; return the reply if it was time for an exchange.

        With the coupling's ``overlap`` the message leaves when it is time, and the reply is taken in and returned so
        many steps later; at the end of the run nothing is left on its way.

        Args:
            loss: the mini-batch loss of this replica, for telemetry and for springs that balance themselves.
        """
        self.probe.saw(loss)
        self.elapsed += 1
        last = self.position.step + 1 == self.position.total_steps
        knobs = self._knobs(final=last)
        due = self.elapsed >= round(knobs["period"] / self._fragments.count)
        before = self.coupling.exchanges == "gradient"
        landing = self._flight is not None and (last or self.elapsed >= self.coupling.overlap)
        later = self.coupling.overlap > 0 and not last
        self._measuring = due and (last or self.probe.due(self.position.step + 1))
        reply = None
        if due and before:
            here = self.position.step
            reply = yield from self._exchange(knobs, here + 1, later=later)
            if self.position.step != here:
                return reply  # it took the run's center instead, and this gradient belongs to other weights
        if self._measuring:
            self.probe.measure_forces(self.weights, self.coupling.force(knobs), knobs["lr"])
        self._move(knobs, may_wait=not due and not landing and not last)
        self._move_to(self.position.step + 1, self.position.exchanges)
        if due and not before:
            reply = yield from self._exchange(knobs, self.position.step, later=later)
        return (yield from self._collect()) if landing else reply

    def _move(self, knobs: Knobs, *, may_wait: bool) -> None:
        """Make a local step; it may wait if nothing but the next gradient will look at the weights."""
        step = LocalStep(
            coupling=self.coupling, weights=self.weights, knobs=knobs, inner=self.inner, generator=self._noise
        )
        if may_wait and self._make_later is not None:
            self._make_later(step)
        else:
            step.make()

    def finish(self) -> Steps[Reply | None]:
        """Exchange what the last, incomplete period found, and what has not reached the center.

        With fragments, that is all weights.
        """
        reply = yield from self._collect()
        if not self.elapsed and not self._center_waits and self._fragments.count == 1:
            return reply
        for w in self.weights:
            w.grad.zero_()
        self._measuring = True
        return (yield from self._exchange(self._knobs(final=True), self.position.step, whole=True))

    def center(self) -> list[Tensor]:
        """Return the center as this replica knows it right after an exchange."""
        return [w[OVERLAPPED] if OVERLAPPED in w else self.coupling.center(w) for w in self.weights]

    def telemetry(self) -> dict[str, float]:
        """Return what was measured at the last exchange and the values of the schedules; empty if nothing is new."""
        measured = self.probe.take(self.position.step)
        if not measured:
            return {}
        knobs = self._knobs()
        knobs |= self.coupling.dimensionless(knobs)
        named = {f"coupling/{name}": value for name, value in knobs.items() if name not in NO_SCHEDULES}
        return {f"replica/{name}": value for name, value in measured.items()} | named

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that a checkpoint of this replica needs, by name; views, not copies."""
        tensors = {"noise": self._noise.get_state(), "loss": self.probe.state(), **self.inner.state()}
        for i, w in enumerate(self.weights):
            tensors[f"fast.{i}"] = w.fast
            tensors |= {f"{name}.{i}": w[name] for name in w}
        return tensors | (self._line.state() if self._line is not None else {})

    def restore(
        self, tensors: Mapping[str, Tensor], *, step: int, exchanges: int, coupling: Coupling, elapsed: int = 0
    ) -> None:
        """Go back to a checkpoint, ``elapsed`` steps after the message of its exchange left.

        Raises:
            CheckpointError: it belongs to another model or method.
        """
        optimizer = {name: value for name, value in tensors.items() if name.startswith("optimizer.")}
        vectors = {name: value for name, value in tensors.items() if name not in (*optimizer, "noise", "loss")}
        refuse_others(vectors, self.weights, self.coupling, coded=self._line is not None)
        if self._line is not None:
            self._line.restore(vectors)
        for name, value in vectors.items():
            if name.startswith(UNSAID):
                continue
            vector, _, group = name.rpartition(".")
            w = self.weights[int(group)]
            (w.fast if vector == "fast" else w.keep(vector)).copy_(value)
        self.inner.restore(optimizer)
        self._noise.set_state(tensors["noise"])
        self.probe.restore(tensors["loss"])
        self.coupling = coupling
        self._move_to(step, exchanges)
        self._count_from(elapsed)

    def _exchange(self, knobs: Knobs, step: int, *, later: bool = False, whole: bool = False) -> Steps[Reply | None]:
        """Move the slow weights and send the message; take its reply in, or leave it to :meth:`_collect`."""
        flight = self._departing(knobs, step, whole=whole)
        if later:  # the storage of its vectors moves on
            flight = flight.with_own_vectors()
        message = flight.message if self._line is None else self._line.says(flight.message)
        if not later:
            return self._land(flight, (yield message))
        yield replace(message, stage="post")
        self._flight = flight
        for w in flight.part:
            self.coupling.depart(w)
        self._begin_period(message.exchanges + 1)
        return None

    def _collect(self) -> Steps[Reply | None]:
        """Take in the reply to the message that is on its way, if there is one."""
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        reply = yield replace(flight.message, stage="collect", vectors=())
        return self._land(flight, reply, overlapped=True)

    def _departing(self, knobs: Knobs, step: int, *, whole: bool) -> Flight:
        part = self.weights if whole else self._fragments.part(self.position.exchanges)
        balancing = self._balancing()
        after = replace(self.position, step=step, exchanges=self.position.exchanges + 1)
        deciding = self.adaptation if self.adaptation is not None and self.adaptation.due(after) else None
        said = balancing if deciding is None else deciding.says(self.probe.losses())
        if self.elapsed or self._fragments.count > 1:  # otherwise only the center has still to hear of it
            self.coupling.outer_step(part, knobs, self.inner, self._noise)
        vectors = [self.coupling.message(w) for w in part]
        message = self._message(self.coupling.sends, vectors, step=step, knobs=knobs, scalars=said)
        if not whole:
            message = self._fragments.message(message)
        return Flight(
            message=message,
            knobs=knobs,
            part=part,
            measuring=self._measuring,
            balancing=bool(balancing),
            deciding=None if deciding is None else (deciding, after),
        )

    def _land(self, flight: Flight, reply: Reply, *, overlapped: bool = False) -> Reply:
        message = flight.message
        if reply.exchanges != message.exchanges + 1:
            self.adopt(reply)
            return reply
        self._center_waits = not message.center_steps[0].lr
        if self._line is not None:
            reply = self._line.hears(reply, message)
        if flight.measuring:
            count = len(self.weights)
            if message.kind == "elastic":
                self.probe.measure_staleness(reply.staleness)
            if self.coupling.kind == "center":
                self.probe.measure_gap(message.vectors[:count], reply.vectors[:count])
            else:
                self.probe.measure_gap([w.fast for w in self.weights], self.center())
        if flight.balancing:
            self._balance(reply)
        self._receive(reply, flight, overlapped=overlapped)
        if flight.deciding is not None:
            adaptation, after = flight.deciding
            self.coupling = adaptation.hears(reply, self.probe.losses(), after)
        return reply

    def _receive(self, reply: Reply, flight: Flight, *, overlapped: bool) -> None:
        count = len(self.weights)
        for w, mean in zip(flight.part, reply.group, strict=False):
            self.coupling.receive_group(w, mean, flight.knobs)
        take_in = self.coupling.arrive if overlapped else self.coupling.receive
        for w, center in zip(flight.part, reply.vectors[:count], strict=True):
            take_in(w, center, flight.knobs, self._noise)
            if OVERLAPPED in w and not overlapped:
                w[OVERLAPPED].copy_(self.coupling.center(w))
        for extra, mean in zip(self.extras, reply.vectors[count:], strict=False):  # absent from all but one fragment
            extra.copy_(mean)
        if not overlapped:
            self._begin_period(reply.exchanges)

    def _begin_period(self, exchanges: int) -> None:
        if self.coupling.momentum_policy == "reset":
            self.inner.forget(self.weights)
        self._move_to(self.position.step, exchanges)
        self._count_from(0)

    def _count_from(self, elapsed: int) -> None:
        """Count the steps, and the losses by which replicas are ranked, from so many steps after an exchange."""
        self.elapsed = elapsed
        if self.coupling.ranked:
            self._loss_before = self.probe.losses()

    def _score(self) -> float:
        """Return the mean loss since the last exchange.

        Raises:
            ConfigError: no loss was seen since.
        """
        total, count = (now - before for now, before in zip(self.probe.losses(), self._loss_before, strict=True))
        if not count:
            raise ConfigError(f"Missing loss. {self.coupling.method()} ranks the replicas by it; give step(loss).")
        return total / count

    def _balancing(self) -> tuple[float, ...]:
        """Return (mean training loss, squared distance to the center) once a spring that waits can be balanced."""
        waits = any(schedule.awaits_balance for schedule in self.coupling.schedules().values())
        if not waits or self.position.measured_in("passes") < 1.0:
            return ()
        return self.probe.mean_loss(), self._squared_gap([self.coupling.message(w) for w in self.weights])

    def _balance(self, reply: Reply) -> None:
        """Set the stiffness that waits to (mean loss)/(spread), before the new center x̄ replaces the old one c.

        The spread mean_a |x^a - x̄|² is mean_a |x^a - c|² - |x̄ - c|²; one lost in rounding asks for no spring.
        """
        loss, distance = reply.scalars
        spread = distance - self._squared_gap(reply.vectors)
        self.coupling = self.coupling.balanced(loss / spread if spread > 1e-6 * distance else 0.0)

    def _squared_gap(self, vectors: Sequence[Tensor]) -> float:
        return sum(
            float(torch.dist(v, self.coupling.center(w))) ** 2 for w, v in zip(self.weights, vectors, strict=False)
        )

    def _message(
        self,
        kind: Kind,
        vectors: list[Tensor],
        step: int = 0,
        knobs: Knobs | None = None,
        scalars: tuple[float, ...] = (),
    ) -> Message:
        center_step = CenterStep() if knobs is None else self.coupling.center_step(knobs)
        return Message(
            kind=kind,
            phase="join" if kind == "join" else "exchange",
            vectors=(*vectors, *self.extras),
            step=step,
            exchanges=self.position.exchanges,
            center_steps=(*(center_step for _ in vectors), *(CenterStep() for _ in self.extras)),
            scalars=scalars,
            group=None if knobs is None else self.coupling.group(self.index),
            score=None if knobs is None or not self.coupling.ranked else self._score(),
            max_ahead=self.coupling.max_ahead,
        )

    def _knobs(self, *, final: bool = False) -> dict[str, float]:
        knobs = dict(self.coupling.knobs(self.position))
        if self.inner.own_lr is not None:
            knobs["lr"] = self.inner.own_lr
        return knobs | {"elapsed": self.elapsed, "exchanges": self.position.exchanges, "final": final}

    def _move_to(self, step: int, exchanges: int) -> None:
        self.position = replace(self.position, step=step, exchanges=exchanges)
