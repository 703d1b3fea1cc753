"""The loss of a model on fixed samples as a function of one flat vector: value, gradient, Hessian times a vector.

Shapes: P = trained parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from deeprelax.errors import ConfigError
from deeprelax.replica.task import Batch


class Landscape:
    """The mean loss over fixed batches. The model computes with other weights, but its own are never written.

    Put the model in evaluation mode before: dropout and batch statistics would make the loss no function of the
    weights.

    Args:
        model: on its device.
        loss: maps ``(model(inputs), targets)`` to the scalar mean loss of a batch.
        batches: ``(inputs, targets)`` on the model's device.

    Attributes:
        point: the model's own weights x, shape (P,).

    Raises:
        ConfigError: the model has nothing to train.
    """

    def __init__(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batches: Sequence[Batch]) -> None:
        self._model = model
        self._loss = loss
        self._batches = batches
        self._samples = sum(len(inputs) for inputs, _ in batches)
        self._trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not self._trained:
            raise ConfigError("The model has no trained parameter. At least one must have requires_grad=True.")
        own = [parameter.detach().flatten() for parameter in self._trained.values()]
        self.point: Tensor = torch.cat([part.to(_widest(own)) for part in own])

    @torch.no_grad()
    def value(self, point: Tensor) -> float:
        """Return f(point)."""
        return sum(float(self._part(point, batch)) for batch in self._batches)

    def value_and_gradient(self, point: Tensor) -> tuple[float, Tensor]:
        """Return f(point) and its gradient, shape (P,)."""
        leaf = point.detach().requires_grad_(True)
        value, gradient = 0.0, torch.zeros_like(point)
        for batch in self._batches:
            part = self._part(leaf, batch)
            gradient += torch.autograd.grad(part, leaf)[0]
            value += float(part.detach())
        return value, gradient

    def hessian_times(self, vector: Tensor) -> Tensor:
        """Return D^2 f(x) ``vector`` at the model's own weights, shape (P,), by differentiating twice."""
        leaf = self.point.detach().requires_grad_(True)
        product = torch.zeros_like(leaf)
        for batch in self._batches:
            # The fused kernels of attention can be differentiated only once.
            with sdpa_kernel(SDPBackend.MATH):
                (gradient,) = torch.autograd.grad(self._part(leaf, batch), leaf, create_graph=True)
                if gradient.requires_grad:  # otherwise the loss is linear
                    product += torch.autograd.grad(gradient, leaf, vector, materialize_grads=True)[0]
        return product

    def _part(self, point: Tensor, batch: Batch) -> Tensor:
        """Return one batch's share of the mean loss."""
        inputs, targets = batch
        outputs = functional_call(self._model, self._unflattened(point), (inputs,))
        return self._loss(outputs, targets) * (len(inputs) / self._samples)

    def _unflattened(self, point: Tensor) -> dict[str, Tensor]:
        parts = point.split([parameter.numel() for parameter in self._trained.values()])
        return {
            name: part.view(parameter.shape).to(parameter.dtype)
            for (name, parameter), part in zip(self._trained.items(), parts, strict=True)
        }


def _widest(tensors: Sequence[Tensor]) -> torch.dtype:
    """Return float64 if a parameter has it, else float32: noise and small steps would be lost in bfloat16."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
