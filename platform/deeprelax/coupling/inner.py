"""The inner optimizer: how one mini-batch gradient, and the method's spring, move the fast weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from deeprelax.coupling.kernels import Sgd, sgd_step_
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError

SpringMode = Literal["coupled", "decoupled"]
OptionValue = bool | float | list[float]
Options = Mapping[str, OptionValue]
"""Arguments of a torch optimizer."""


@dataclass(frozen=True, kw_only=True)
class Force:
    """What a method adds to the mini-batch gradient at one local step.

    Args:
        anchor: name of the vector the spring pulls to; None for no spring.
        stiffness: of the spring, 1/γ or 1/ρ, >= 0.
        average: name of the vector that averages the fast weights; None for no average.
        averaging: α, weight of the old average.
        noise: standard deviation of the normal noise added to the fast weights after the step.
    """

    anchor: str | None = None
    stiffness: float = 0.0
    average: str | None = None
    averaging: float = 0.0
    noise: float = 0.0


class Inner(ABC):
    """Moves ``fast`` by the gradient and a :class:`Force`.

    The spring is either part of the gradient, and so of the momentum (``coupled``, Parle), or a step of its own from
    the same weights (``decoupled``, as AdamW treats weight decay).
    """

    def __init__(self, spring: SpringMode) -> None:
        self.spring = spring

    def step(self, weights: Sequence[Weights], force: Force, lr: float, generator: torch.Generator) -> None:
        """Make one local step on all groups of weights."""
        if self.spring == "decoupled":
            self._pull(weights, force, lr)
            coupled = Force(average=force.average, averaging=force.averaging)
        else:
            coupled = force
        self._move(weights, coupled, lr)
        if force.noise:
            _shake(weights, force, generator)

    @staticmethod
    def _pull(weights: Sequence[Weights], force: Force, lr: float) -> None:
        for w in weights:
            if force.anchor and force.stiffness:
                w.fast.lerp_(w[force.anchor], lr * force.stiffness)

    @abstractmethod
    def _move(self, weights: Sequence[Weights], force: Force, lr: float) -> None:
        """Apply gradient, coupled spring and averaging."""

    @property
    def own_lr(self) -> float | None:
        """The learning rate of a user's optimizer; None where the coupling's ``lr`` rules."""
        return None

    @abstractmethod
    def forget(self, weights: Sequence[Weights]) -> None:
        """Drop the momentum."""

    def state(self) -> dict[str, Tensor]:
        """Return the named tensors of the optimizer that the weights do not hold."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027  (an optimizer may have nothing to take back)
        """Take back what :meth:`state` returned."""


def _shake(weights: Sequence[Weights], force: Force, generator: torch.Generator) -> None:
    # The average must see the noisy weights; it saw y, so the difference (1-α)·noise is added to it.
    for w in weights:
        noise = w.noise(generator).mul_(force.noise)
        w.fast.add_(noise)
        if force.average:
            w[force.average].add_(noise, alpha=1.0 - force.averaging)


class FlatSgd(Inner):
    """SGD with momentum, spring and average in one fused pass. Keeps ``velocity``: one copy of the parameters.

    Args:
        momentum: in [0, 1); 0 keeps nothing.
        nesterov: torch's Nesterov form.
        weight_decay: added to the gradient.
        spring: see :class:`Inner`.
    """

    def __init__(self, momentum: float, nesterov: bool, weight_decay: float, spring: SpringMode) -> None:
        super().__init__(spring)
        self.momentum = momentum
        self.nesterov = nesterov
        self.weight_decay = weight_decay

    def _move(self, weights: Sequence[Weights], force: Force, lr: float) -> None:
        numbers = Sgd(
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            stiffness=force.stiffness,
            averaging=force.averaging,
        )
        for w in weights:
            sgd_step_(
                w.fast,
                w.grad,
                numbers,
                v=w.keep("velocity") if self.momentum else None,
                x=w[force.anchor] if force.anchor and force.stiffness else None,
                z=w[force.average] if force.average else None,
            )

    def forget(self, weights: Sequence[Weights]) -> None:
        if self.momentum:
            for w in weights:
                w.keep("velocity").zero_()


class TorchInner(Inner):
    """Any ``torch.optim.Optimizer``, over the model's parameters or over the flat vectors themselves.

    Args:
        optimizer: its parameters are views of ``Weights.fast``, their gradients views of ``Weights.grad``.
        spring: see :class:`Inner`.
        owns_lr: whether the coupling's ``lr`` is written into the optimizer; False leaves the user's own schedule
            alone.
    """

    def __init__(self, optimizer: Optimizer, spring: SpringMode, *, owns_lr: bool = True) -> None:
        super().__init__(spring)
        self.optimizer = optimizer
        self.owns_lr = owns_lr

    def _move(self, weights: Sequence[Weights], force: Force, lr: float) -> None:
        if force.anchor and force.stiffness:
            for w in weights:
                w.grad.add_(w.fast, alpha=force.stiffness).sub_(w[force.anchor], alpha=force.stiffness)
        if self.owns_lr:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
        self.optimizer.step()
        if force.average:
            for w in weights:
                w[force.average].lerp_(w.fast, 1.0 - force.averaging)

    @property
    def own_lr(self) -> float | None:
        return None if self.owns_lr else float(self.optimizer.param_groups[0]["lr"])

    def forget(self, weights: Sequence[Weights]) -> None:
        self.optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        states = self.optimizer.state_dict()["state"]
        return {
            f"optimizer.{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
            for index, entries in states.items()
            for name, value in entries.items()
            if value is not None
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            prefix, index, name = key.split(".", 2)
            assert prefix == "optimizer", key
            entries.setdefault(int(index), {})[name] = value.clone()
        self.optimizer.load_state_dict({"state": entries, "param_groups": self.optimizer.state_dict()["param_groups"]})
        # Loading casts every entry to its parameter's dtype, so a running product (NAdam) would change or lose digits.
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for position, saved in entries.items():
            loaded = self.optimizer.state[parameters[position]]
            loaded |= {name: value.to(loaded[name].device) for name, value in saved.items()}


OPTIMIZERS: Mapping[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
}


def flat_optimizer(name: str, weights: Sequence[Weights], options: Options) -> Optimizer:
    """Return the torch optimizer ``name`` over the flat vectors: one tensor instead of one per parameter."""
    parameters = []
    for w in weights:
        parameter = torch.nn.Parameter(w.fast, requires_grad=True)
        parameter.data = w.fast
        parameter.grad = w.grad
        parameters.append(parameter)
    return make_optimizer(name, parameters, options)


def make_optimizer(name: str, parameters: Sequence[torch.nn.Parameter], options: Options) -> Optimizer:
    """Return the torch optimizer ``name``.

    Raises:
        ConfigError: one of its options is unknown or impossible.
    """
    try:
        return OPTIMIZERS[name](parameters, **dict[str, Any](options))
    except (IndexError, TypeError, ValueError) as error:
        raise ConfigError(f"Invalid optimizer_options={dict(options)!r} of {name!r}: {error}.") from None
