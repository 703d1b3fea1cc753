"""All replicas of a run as one vector, moved by the library's own couplings.

The rules of a coupling work element by element but for the mean, so n replicas of d parameters are to them one replica
of n·d parameters: a step costs a few calls, whatever n is. What a :class:`~deeprelax.replica.replica.Replica` does in a
step is done here in the same order; a test holds both together.

Legend: n replicas, d parameters of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from deeprelax.coupling import Coupling
from deeprelax.coupling.inner import FlatSgd, Inner, TorchInner, flat_optimizer
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError
from deeprelax.exchange.center import Center
from deeprelax.pde.potentials import Potential
from deeprelax.schedules import Position
from deeprelax.simulation.lag import Lag, LateMail


class Swarm:
    """n replicas on one potential.

    Args:
        coupling: the method, with ``lr`` and ``replicas=n``. Its policies of start, data and BatchNorm do not matter
            here.
        potential: f on R^d.
        starts: shape (n, d), float64.
        total_steps: length of the run, for schedules.
        lag: how late messages are.
        seed: of the coupling's noise and the lags.

    Attributes:
        position: steps and exchanges so far.
        spread: of the replicas at the last exchange, before they took in the center: the root of mean_a |x^a - mean|²
            of the weights that travel, or of those that a shared gradient is taken at.

    Raises:
        ConfigError: the coupling has no ``lr``, another n, or a spring that balances itself by a training loss.
    """

    def __init__(
        self,
        coupling: Coupling,
        potential: Potential,
        starts: Tensor,
        *,
        total_steps: int | None = None,
        lag: Lag | None = None,
        seed: int = 0,
    ) -> None:
        _require(coupling, len(starts))
        self.coupling = coupling
        self.position = Position(total_steps=total_steps)
        self._potential = potential
        self._shape = starts.shape
        self._noise = torch.Generator().manual_seed(seed)
        self._mail = LateMail(lag or Lag(), torch.Generator().manual_seed(seed + 1))
        fast = starts.detach().reshape(-1).clone()
        self._w = Weights(fast, torch.zeros_like(fast))
        for name in coupling.vectors:
            self._w.keep(name)
        self._inner = _inner(coupling, self._w)
        self._elapsed = 0
        self.spread = 0.0
        self._center = Center([starts.mean(0)])
        coupling.begin(self._w, self._to_all(self._center.vectors[0]), self._knobs(), self._noise)

    @property
    def points(self) -> Tensor:
        """The replicas' weights, shape (n, d); a view."""
        return self._w.fast.view(self._shape)

    @property
    def center(self) -> Tensor:
        """The center as replica 0 knows it, shape (d,); a view."""
        return self.coupling.center(self._w).view(self._shape)[0]

    def step(self, noise: Tensor | None = None) -> bool:
        """Make one mini-batch step on every replica; return whether it ended with an exchange.

        Args:
            noise: added to the gradients, shape (n, d); None = exact gradients.
        """
        slope = self._potential.gradient(self.points)
        self._w.grad.copy_((slope if noise is None else slope + noise).reshape(-1))
        self._elapsed += 1
        knobs = self._knobs()
        due = self._elapsed >= round(knobs["period"])
        before = self.coupling.exchanges == "gradient"
        if due and before:
            self._exchange(knobs)
        self.coupling.local_step([self._w], knobs, self._inner, self._noise)
        self.position = replace(self.position, step=self.position.step + 1)
        if due and not before:
            self._exchange(knobs)
        return due

    def _exchange(self, knobs: Mapping[str, float]) -> None:
        self.coupling.outer_step([self._w], knobs, self._inner, self._noise)
        messages = self.coupling.message(self._w).view(self._shape)
        moved = messages if self.coupling.kind == "center" else self.points
        self.spread = float((moved - moved.mean(0)).square().sum(-1).mean().sqrt())
        mean = self._mail.arrived(messages).mean(0)
        if self.coupling.kind == "center":
            self._center.advance([mean], [self.coupling.center_step(knobs)])
            mean = self._center.vectors[0]
        self.coupling.receive(self._w, self._to_all(mean), knobs, self._noise)
        if self.coupling.momentum_policy == "reset":
            self._inner.forget([self._w])
        self.position = replace(self.position, exchanges=self.position.exchanges + 1)
        self._elapsed = 0

    def _to_all(self, vector: Tensor) -> Tensor:
        return vector.expand(self._shape).reshape(-1)

    def _knobs(self) -> dict[str, float]:
        return {**self.coupling.knobs(self.position), "elapsed": float(self._elapsed)}


def _require(coupling: Coupling, replicas: int) -> None:
    if coupling.lr is None:
        raise ConfigError(f"Missing field 'lr' of {coupling.method()}. Give lr=0.05 or lr='cos(0.05,0)'.")
    if coupling.replicas != replicas:
        raise ConfigError(f"Invalid starts of {replicas} replicas. Must be replicas={coupling.replicas}.")
    if any(schedule.awaits_balance for schedule in coupling.schedules().values()):
        raise ConfigError(f"{coupling.method()} balances a spring by its training loss, which a simulation has not.")


def _inner(coupling: Coupling, w: Weights) -> Inner:
    name = coupling.optimizer or "sgd"
    if name == "sgd":
        return FlatSgd(coupling.momentum, coupling.nesterov, coupling.weight_decay, coupling.spring)
    return TorchInner(flat_optimizer(name, [w], coupling.optimizer_options), coupling.spring)
