"""A model's parameters as views of one flat vector per dtype: a force, an average, an exchange is one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError

Allocate = Callable[[int, Tensor, Tensor], Weights]
"""Makes zero weights of a size, on the device and of the dtype of a tensor, with the padding at some indices."""

_ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class _Slot:
    """Where one parameter lies in its flat vector."""

    name: str
    parameter: nn.Parameter
    offset: int

    def view(self, flat: Tensor) -> Tensor:
        data = self.parameter.data
        return flat.as_strided(data.shape, data.stride(), flat.storage_offset() + self.offset)


def allocated(size: int, like: Tensor, padding: Tensor) -> Weights:
    """Return weights in memory of their own."""
    fast = torch.zeros(size, dtype=like.dtype, device=like.device)
    return Weights(fast, torch.zeros_like(fast), padding)


class FlatModel:
    """Binds a model to flat storage: one :class:`~deeprelax.coupling.weights.Weights` per dtype of trained parameters.

    Parameters keep their identity (an optimizer built before works on), shape and strides; each begins at a multiple of
    64 bytes. Frozen parameters (``requires_grad=False``) stay where they are. Tied parameters are one view. Gradients
    are views too, so a step must zero them (:meth:`zero_grad`) instead of dropping them.

    Args:
        model: on its final device.
        allocate: makes the flat vectors, once a dtype.

    Raises:
        ConfigError: nothing to train; parameters on several devices; float16, complex or integer parameters; parameters
        that
            share memory without being the same object.
    """

    def __init__(self, model: nn.Module, allocate: Allocate = allocated) -> None:
        self.model = model
        self._allocate = allocate
        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        _refuse_unusable(trained)
        _refuse_shared_memory(model, trained)
        self._slots: list[list[_Slot]] = []
        self.weights: list[Weights] = []
        for dtype in sorted({parameter.dtype for _, parameter in trained}, key=str):
            self._bind([(name, parameter) for name, parameter in trained if parameter.dtype == dtype])

    def _bind(self, named: Sequence[tuple[str, nn.Parameter]]) -> None:
        slots, size = _lay_out(named)
        like = named[0][1].data
        used = torch.zeros(size, dtype=torch.bool)
        for slot in slots:
            used[slot.offset : slot.offset + slot.parameter.numel()] = True
        w = self._allocate(size, like, (~used).nonzero().squeeze(1).to(like.device))
        for slot in slots:
            slot.view(w.fast).copy_(slot.parameter.data)
        self._slots.append(slots)
        self.weights.append(w)
        _point(slots, w.fast)
        self._point_grads(slots, w.grad)

    @property
    def parameters_count(self) -> int:
        """Return the number of trained parameters."""
        return sum(slot.parameter.numel() for slots in self._slots for slot in slots)

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place."""
        for slots, w in zip(self._slots, self.weights, strict=True):
            w.grad.zero_()
            self._point_grads(slots, w.grad)

    def collect_grads(self) -> None:
        """Bring gradients back that somebody replaced (``zero_grad(set_to_none=True)`` followed by ``backward``)."""
        for slots, w in zip(self._slots, self.weights, strict=True):
            for slot in slots:
                view, grad = slot.view(w.grad), slot.parameter.grad
                if grad is None:
                    view.zero_()
                elif grad.data_ptr() != view.data_ptr():
                    view.copy_(grad)
                slot.parameter.grad = view

    @staticmethod
    def _point_grads(slots: Sequence[_Slot], grad: Tensor) -> None:
        for slot in slots:
            if slot.parameter.grad is None or slot.parameter.grad.data_ptr() != slot.view(grad).data_ptr():
                slot.parameter.grad = slot.view(grad)

    @contextmanager
    def showing(self, vectors: Sequence[Tensor]) -> Iterator[nn.Module]:
        """Let the model compute with other flat vectors, such as the center, without copying anything."""
        try:
            for slots, vector in zip(self._slots, vectors, strict=True):
                _point(slots, vector)
            yield self.model
        finally:
            for slots, w in zip(self._slots, self.weights, strict=True):
                _point(slots, w.fast)

    def load(self, vectors: Sequence[Tensor]) -> None:
        """Copy flat vectors into the fast weights."""
        for w, vector in zip(self.weights, vectors, strict=True):
            w.fast.copy_(vector)

    def named(self, vectors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the parameters inside flat vectors, by the model's names."""
        return {
            slot.name: slot.view(vector) for slots, vector in zip(self._slots, vectors, strict=True) for slot in slots
        }


def _lay_out(named: Sequence[tuple[str, nn.Parameter]]) -> tuple[list[_Slot], int]:
    slots, size = [], 0
    for name, parameter in named:
        if not _is_dense(parameter.data):
            parameter.data = parameter.data.contiguous()
        slots.append(_Slot(name, parameter, size))
        aligned = _ALIGNMENT_BYTES // parameter.element_size()
        size += -(-parameter.numel() // aligned) * aligned
    return slots, size


def _is_dense(tensor: Tensor) -> bool:
    """Return whether the strides fill memory without gaps or overlap, in any order (channels_last, transposed)."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1 and stride != expected:
            return False
        expected *= length
    return True


def _point(slots: Sequence[_Slot], flat: Tensor) -> None:
    for slot in slots:
        slot.parameter.data = slot.view(flat)


def _refuse_unusable(trained: Sequence[tuple[str, nn.Parameter]]) -> None:
    if not trained:
        raise ConfigError("The model has no trained parameter. At least one must have requires_grad=True.")
    devices = {str(parameter.device) for _, parameter in trained}
    if len(devices) > 1:
        raise ConfigError(
            f"Parameters lie on several devices: {', '.join(sorted(devices))}. One replica must fit one device."
        )
    for name, parameter in trained:
        if parameter.dtype not in (torch.float32, torch.float64, torch.bfloat16):
            raise ConfigError(
                f"Invalid dtype {parameter.dtype} of parameter {name!r}. Must be float32, float64 or bfloat16; for "
                'mixed precision keep float32 parameters and set precision="bf16".'
            )


def _refuse_shared_memory(model: nn.Module, trained: Sequence[tuple[str, nn.Parameter]]) -> None:
    """Refuse a trained parameter that overlaps with any other tensor of the model: binding would move them apart."""
    names = {name for name, _ in trained}
    device = trained[0][1].device
    held = [*model.named_parameters(), *model.named_buffers()]
    spans = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + _extent(tensor.data) * tensor.element_size(), name)
        for name, tensor in held
        if tensor.device == device and tensor.layout == torch.strided and tensor.numel()
    )
    furthest, furthest_trained = (0, ""), (0, "")
    for begin, end, name in spans:
        before, first = furthest if name in names else furthest_trained
        if begin < before:
            raise ConfigError(
                f"{first!r} and {name!r} share memory without being one parameter. Tie parameters by assigning the "
                "same nn.Parameter object to both modules; give a buffer its own copy with .clone()."
            )
        furthest = max(furthest, (end, name))
        if name in names:
            furthest_trained = max(furthest_trained, (end, name))


def _extent(tensor: Tensor) -> int:
    """Return how many elements of its storage a tensor spans."""
    return 1 + sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
