"""A user's own training loop, coupled to its replicas in a few lines.

Example, under ``torchrun --nproc-per-node 3`` after ``torch.distributed.init_process_group("gloo")``::

    with deeprelax.Coupled(model, Parle(replicas=3, lr=0.05, gamma="exp(100,1)"), total_steps=10_000) as replica:
        for inputs, targets in loader:
            replica.zero_grad()
            loss = loss_of(model(inputs), targets)
            loss.backward()
            replica.step(loss)
    torch.save(model.state_dict(), "center.pt")     # after the block the model holds the center
"""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.message import Message, Reply
from deeprelax.errors import ConfigError
from deeprelax.exchange.base import Exchange, drive
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica


class Coupled:
    """Couples the model of a running loop to the models of the other processes.

    On entering, the replicas meet; on leaving without an exception, the last period is exchanged and the model holds
    the center.

    Args:
        model: on its device; its parameters become views of flat storage.
        coupling: the method; with ``replicas=1`` it runs alone.
        optimizer: an optimizer over ``model.parameters()`` that makes the local steps; None is SGD by the coupling's
            fields.
        exchange: how messages travel; None is ``torch.distributed``'s default group, or nothing for one replica.
        index: this replica; None takes the rank in the default group.
        seed: of the noise.
        steps_per_pass: mini-batches in a data pass, for schedules in passes.
        total_steps: mini-batches in the run, for schedules in fractions of it.

    Raises:
        ConfigError: the group has another size than the coupling's ``replicas``.
    """

    def __init__(
        self,
        model: nn.Module,
        coupling: Coupling,
        *,
        optimizer: Optimizer | None = None,
        exchange: Exchange | None = None,
        index: int | None = None,
        seed: int = 0,
        steps_per_pass: int | None = None,
        total_steps: int | None = None,
    ) -> None:
        self._exchange = exchange or _default_exchange(coupling)
        self.replica = Replica(
            model,
            coupling,
            index=_rank() if index is None else index,
            seed=seed,
            optimizer=optimizer,
            steps_per_pass=steps_per_pass,
            total_steps=total_steps,
        )

    def __enter__(self) -> Self:
        drive(self.replica.join(), self._exchange)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._drive(self.replica.finish())
            self.replica.flat.load(self.replica.center())

    def zero_grad(self) -> None:
        """Zero the gradients, in place."""
        self.replica.flat.zero_grad()

    def step(self, loss: Tensor | None = None) -> None:
        """Make a local step with the gradients at hand; every ``period`` steps the replicas exchange.

        Args:
            loss: of this mini-batch, for telemetry and for springs that balance themselves.
        """
        self.replica.flat.collect_grads()
        self._drive(self.replica.step(loss))

    def _drive(self, steps: Generator[Message, Reply, object]) -> None:
        with torch.no_grad():
            drive(steps, self._exchange)


class _Alone(Exchange):
    """The exchange of one replica."""

    def __init__(self) -> None:
        self._rounds = Rounds()

    def exchange(self, message: Message) -> Reply:
        return self._rounds.complete([message])


def _rank() -> int:
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def _default_exchange(coupling: Coupling) -> Exchange:
    if coupling.replicas == 1:
        return _Alone()
    from deeprelax.exchange.collective import CollectiveExchange

    size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if size != coupling.replicas:
        raise ConfigError(
            f"Invalid replicas={coupling.replicas}. Must be {size}, the processes of the group; "
            f"run under torchrun --nproc-per-node {coupling.replicas} after init_process_group, or give exchange=."
        )
    return CollectiveExchange()
