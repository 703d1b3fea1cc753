"""The single-replica methods as ordinary PyTorch optimizers, for a user's own training loop.

Example:
    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> optimizer = EntropySGD(model, lr=0.1, gamma=10.0, period=5)
    >>> for _ in range(10):
    ...     optimizer.zero_grad()
    ...     loss = model(torch.ones(8, 4)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    >>> with optimizer.center():
    ...     final = model(torch.ones(1, 4))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.entropy_sgd import EntropySgd
from deeprelax.coupling.heat import Heat as HeatCoupling
from deeprelax.coupling.hj import Hj
from deeprelax.coupling.lookahead import Lookahead as LookaheadCoupling
from deeprelax.coupling.message import Message, Reply
from deeprelax.replica.replica import Replica, Steps, T


class _State(TypedDict):
    """What a checkpoint of an optimizer holds."""

    tensors: dict[str, Tensor]
    step: int
    exchanges: int
    elapsed: int
    inner_groups: list[dict[str, object]]


class _Relaxing(Optimizer):
    """An optimizer that keeps slow weights around a model's parameters.

    Args:
        model: its parameters become views of flat storage; give it on its final device.
        inner: an optimizer over ``model.parameters()`` that makes the local steps; None is SGD with the ``lr``,
            ``momentum`` and ``weight_decay`` of ``fields``.
        seed: of the noise.
        steps_per_pass: mini-batches in a data pass, needed by schedules in passes.
        total_steps: mini-batches in the run, needed by schedules in fractions of it (the default unit).
        fields: of the coupling's config, such as ``gamma="exp(100,1,steps=5000)"``.
    """

    coupling: ClassVar[type[Coupling]]

    def __init__(
        self,
        model: nn.Module,
        *,
        inner: Optimizer | None = None,
        seed: int = 0,
        steps_per_pass: int | None = None,
        total_steps: int | None = None,
        **fields: object,
    ) -> None:
        coupling = self.coupling(**fields)
        self.replica = Replica(
            model, coupling, seed=seed, optimizer=inner, steps_per_pass=steps_per_pass, total_steps=total_steps
        )
        self._inner = inner
        super().__init__([p for p in model.parameters() if p.requires_grad], {})
        _alone(self.replica.join())

    def zero_grad(self, set_to_none: bool = False) -> None:  # noqa: ARG002  (torch's signature)
        """Zero the gradients in place; they stay views of flat storage whatever ``set_to_none`` says."""
        self.replica.flat.zero_grad()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make a local step with the gradients at hand; every ``period`` steps the slow weights move too.

        Args:
            closure: computes the loss and its gradients again, as in ``torch.optim``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.replica.flat.collect_grads()
        _alone(self.replica.step(loss))
        return loss

    @contextmanager
    def center(self) -> Iterator[None]:
        """Let the model compute with the slow weights, the ones to evaluate and save."""
        with self.replica.flat.showing(self.replica.center()):
            yield

    def state_dict(self) -> dict[str, object]:
        """Return everything a resumed run needs beside the model's own state."""
        position = self.replica.position
        return {
            "tensors": {name: tensor.clone() for name, tensor in self.replica.state().items()},
            "step": position.step,
            "exchanges": position.exchanges,
            "elapsed": self.replica.elapsed,
            "inner_groups": [
                {name: value for name, value in group.items() if name != "params"} for group in self._given_groups()
            ],
        }

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Continue from :meth:`state_dict`, in the middle of a period too."""
        saved = cast("_State", state_dict)
        self.replica.restore(
            saved["tensors"], step=saved["step"], exchanges=saved["exchanges"], coupling=self.replica.coupling
        )
        self.replica.elapsed = saved["elapsed"]
        for group, values in zip(self._given_groups(), saved["inner_groups"], strict=True):
            group.update(values)

    def _given_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of the user's inner optimizer: its learning rates belong to the user."""
        return [] if self._inner is None else self._inner.param_groups


class EntropySGD(_Relaxing):
    """Entropy-SGD; fields and equations in :class:`deeprelax.coupling.EntropySgd`."""

    coupling = EntropySgd


class HJ(_Relaxing):
    """HJ, Entropy-SGD's limit without noise; fields and equations in :class:`deeprelax.coupling.Hj`."""

    coupling = Hj


class Heat(_Relaxing):
    """Heat: gradients at randomly shifted weights; fields and equations in :class:`deeprelax.coupling.Heat`."""

    coupling = HeatCoupling


class Lookahead(_Relaxing):
    """Lookahead around any optimizer; fields and equations in :class:`deeprelax.coupling.Lookahead`."""

    coupling = LookaheadCoupling


def _alone(steps: Steps[T]) -> T:
    """Run a piece of a loop that has no other replicas: each message is its own reply."""
    reply: Reply | None = None
    try:
        message = next(steps)
        while True:
            reply = _echo(message)
            message = steps.send(reply)
    except StopIteration as finished:
        value: T = finished.value
        return value


def _echo(message: Message) -> Reply:
    exchanges = message.exchanges + (message.kind != "join")
    return Reply(vectors=message.vectors, step=message.step, exchanges=exchanges, scalars=message.scalars)
