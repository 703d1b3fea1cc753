"""Whether the replicas of a task can be computed in one call: tried on two of them, against each computed alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from deeprelax.replica.flat import FlatModel
from deeprelax.replica.gradients import Ask, Gradients
from deeprelax.replica.random_stream import RandomStream
from deeprelax.replica.stacked import StackedGradients
from deeprelax.replica.start import initialized
from deeprelax.replica.task import Task

_TRIED = 2


def why_not(
    task: Task,
    device: torch.device,
    *,
    batch_size: int,
    accumulate: int = 1,
    precision: Literal["float32", "bf16"] = "float32",
) -> str | None:
    """Return why the replicas of a task cannot be computed in one call; None if they can.

    They cannot if the forward changes a buffer (BatchNorm in training mode), draws random numbers other than those of
    dropout layers, has control flow that depends on the data, or uses an operation that ``torch.func.vmap`` does not
    know; nor if the gradients come out different. Costs a few gradients.

    Args:
        task: model, data and loss.
        device: where the models will be.
        batch_size: samples of a step.
        accumulate: parts a batch is computed in.
        precision: see :class:`~deeprelax.replica.gradients.Gradients`.
    """

    def asks(bind: Callable[[nn.Module], FlatModel]) -> list[Ask]:
        return [
            Ask(
                Gradients(
                    task=task,
                    flat=bind(initialized(task, seed=0, index=a).to(device)),
                    device=device,
                    augmenting=torch.Generator().manual_seed(a),
                    dropout=RandomStream(a, device),
                    accumulate=accumulate,
                    precision=precision,
                ),
                indices=torch.arange(a, a + batch_size) % len(task.train_data),
            )
            for a in range(_TRIED)
        ]

    alone = asks(FlatModel)
    changed = [name for ask in alone for name in _changed_by(ask)]
    if changed:
        return f"its forward changes the buffer {changed[0]!r}, as BatchNorm does in training mode"
    try:
        stacked = StackedGradients(task, device, _TRIED)
        together = asks(stacked.bind)
        with warnings.catch_warnings():
            # torch's word for an operation that it would repeat for each replica, which gains nothing.
            warnings.filterwarnings("error", message="There is a performance drop")
            stacked.answer(together)
    except Exception as error:  # noqa: BLE001 - a model that runs alone may fail under vmap with any error
        return f"torch.func.vmap refuses it: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return _difference(alone, together, precision)


def _changed_by(ask: Ask) -> list[str]:
    """Compute a gradient alone; return the buffers that it changed."""
    model = ask.gradients.flat.model
    before = {name: (buffer, buffer.clone()) for name, buffer in model.named_buffers()}
    ask.answer()
    return [name for name, buffer in model.named_buffers() if not _same(buffer, before.get(name))]


def _same(buffer: Tensor, before: tuple[Tensor, Tensor] | None) -> bool:
    return before is not None and buffer is before[0] and torch.equal(buffer, before[1])


def _difference(alone: list[Ask], together: list[Ask], precision: str) -> str | None:
    """Return in words if the gradients differ by more than rounding."""
    for one, other in zip(alone, together, strict=True):
        for left, right in zip(one.gradients.flat.weights, other.gradients.flat.weights, strict=True):
            # Half of the digits: numbers that differ in the others were not computed alike.
            dtype = torch.bfloat16 if precision == "bf16" else left.grad.dtype
            allowed = torch.finfo(dtype).eps ** 0.5
            gap = float(torch.dist(left.grad, right.grad) / torch.linalg.vector_norm(left.grad))
            if gap > allowed:
                return f"its gradients come out different: by {gap:.2g} relative to their norm"
    return None
