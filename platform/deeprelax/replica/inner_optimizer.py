"""Which inner optimizer moves a replica's fast weights."""

from __future__ import annotations

from torch.optim import Optimizer

from deeprelax.coupling.base import Coupling
from deeprelax.coupling.inner import FlatSgd, Inner, TorchInner, flat_optimizer
from deeprelax.replica.flat import FlatModel


def inner_of(coupling: Coupling, flat: FlatModel, optimizer: Optimizer | None) -> Inner:
    """Return the user's own optimizer over the model, or the one that the coupling names over the flat weights."""
    if optimizer is not None:
        return TorchInner(optimizer, coupling.spring, owns_lr=coupling.lr is not None)
    name = coupling.optimizer or "sgd"
    if name == "sgd":
        return FlatSgd(coupling.momentum, coupling.nesterov, coupling.weight_decay, coupling.spring)
    return TorchInner(flat_optimizer(name, flat.weights, coupling.optimizer_options), coupling.spring)
