"""The gradients of many replicas of one task in one call: ``torch.func.vmap`` over their stacked weights.

Every sum is the one that a replica alone would make, but a library for matrices may order it differently: gradients
are equal to rounding, not bit for bit. Dropout and augmentation are each replica's own, as if it were alone.

Legend: K replicas computed at once, B samples of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from deeprelax.replica.flat import FlatModel
from deeprelax.replica.gradients import Ask
from deeprelax.replica.local_step import Company, LocalStep
from deeprelax.replica.masks import Drop, Masks
from deeprelax.replica.stack import Stack, Window
from deeprelax.replica.stacked_steps import StackedSteps
from deeprelax.replica.start import initialized
from deeprelax.replica.task import Batch, Task


class StackedGradients(Company):
    """Answers the asks of replicas, of one run or of several, in as few calls as their batches allow.

    Replicas share a call if their batches have one size and are computed in one way (parts, precision). Memory beyond
    that of the replicas alone: their activations are alive at the same time.

    Args:
        task: of all replicas; see :func:`~deeprelax.replica.stackable.why_not`.
        device: where the models are.
        rows: the most replicas it takes.
    """

    def __init__(self, task: Task, device: torch.device, rows: int) -> None:
        self._stack = Stack(rows)
        self._steps = StackedSteps()
        self._task = task
        self._device = device
        self._model = initialized(task, seed=0, index=0).to(device)
        self._masks = Masks(self._model)
        self._drops: dict[tuple[object, ...], list[Drop]] = {}

    def bind(self, model: nn.Module) -> FlatModel:
        """Bind a replica's model; see :meth:`Stack.bind`."""
        return self._stack.bind(model)

    def make_later(self, step: LocalStep) -> None:
        """Make a local step together with those of the other replicas, before the next gradients."""
        self._steps.take(step)

    def answer(self, asks: Sequence[Ask]) -> None:
        """Compute the gradients of bound replicas into their storage, and set their losses."""
        self._steps.make()
        for _, group in groupby(sorted(asks, key=self._order), key=self._kind):
            together = list(group)
            if len(together) == 1:
                together[0].answer()
            else:
                self._answer(together)

    def _order(self, ask: Ask) -> tuple[object, ...]:
        return (*self._kind(ask), self._stack.row(ask.gradients.flat))

    @staticmethod
    def _kind(ask: Ask) -> tuple[object, ...]:
        return len(ask.indices), ask.gradients.accumulate, ask.gradients.precision

    def _answer(self, asks: Sequence[Ask]) -> None:
        window = self._stack.window(tuple(self._stack.row(ask.gradients.flat) for ask in asks))
        window.load()
        totals = torch.zeros(len(asks), device=self._device)
        for number, parts in enumerate(zip(*(ask.gradients.parts(ask.indices) for ask in asks), strict=True)):
            share = len(parts[0]) / len(asks[0].indices)
            totals += self._add_gradients(window, asks, parts, share, first=number == 0)
        window.store()
        for ask, total in zip(asks, totals.unbind(), strict=True):
            ask.loss = total
            ask.gradients.clip()

    def _add_gradients(
        self, window: Window, asks: Sequence[Ask], parts: Sequence[Tensor], share: float, *, first: bool
    ) -> Tensor:
        """Add the gradients of one part of the batches, or set them; return the losses, shape (K,)."""
        inputs, targets = self._batches(asks, parts)
        losses = self._losses(window, asks, inputs, targets) * share
        # The sum's gradient holds those of all replicas: each weight is in the loss of one replica only.
        found: Sequence[Tensor | None] = torch.autograd.grad(
            losses.sum(), list(window.trained.values()), allow_unused=True
        )
        for into, gradient in zip(window.grads.values(), found, strict=True):
            if first:
                into.zero_() if gradient is None else into.copy_(gradient)
            elif gradient is not None:
                into.add_(gradient)
        return losses.detach()

    def _batches(self, asks: Sequence[Ask], parts: Sequence[Tensor]) -> Batch:
        """Return the replicas' batches, shapes (K, B, ...)."""
        if self._task.augment is None:
            inputs, targets = self._task.train_data.batch(torch.cat(list(parts)))
            shape = (len(parts), len(parts[0]))
            batches = inputs.unflatten(0, shape), targets.unflatten(0, shape)
        else:
            drawn = [_drawn_batch(ask, part) for ask, part in zip(asks, parts, strict=True)]
            batches = torch.stack([inputs for inputs, _ in drawn]), torch.stack([targets for _, targets in drawn])
        to_device = asks[0].gradients.to_device
        return to_device(batches[0]), to_device(batches[1])

    def _losses(self, window: Window, asks: Sequence[Ask], inputs: Tensor, targets: Tensor) -> Tensor:
        own = self._own(asks)
        with asks[0].gradients.autocast():
            masks = self._drawn(asks, window, own, inputs)
            losses: Tensor = vmap(self._loss)({**own, **window.trained}, masks, inputs, targets)
        return losses

    def _loss(self, weights: dict[str, Tensor], masks: list[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of one replica."""
        self._masks.give(masks)
        return self._task.loss(self._outputs(weights, inputs), targets)

    def _outputs(self, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._model, {**self._common, **weights}, (inputs,))
        return outputs

    @cached_property
    def _common(self) -> Mapping[str, Tensor]:
        """Frozen parameters and buffers by name: the first replica's own tensors, for all that have the same."""
        return _untrained(self._stack.flats[0].model)

    @cached_property
    def _differing(self) -> Sequence[str]:
        """Names of those that are not the same in all replicas, as in runs of several seeds."""
        others = [_untrained(flat.model) for flat in self._stack.flats[1:]]
        return [
            name for name, first in self._common.items() if not all(torch.equal(first, one[name]) for one in others)
        ]

    def _own(self, asks: Sequence[Ask]) -> dict[str, Tensor]:
        """Return what is not trained and differs from replica to replica, shapes (K, ...)."""
        if not self._differing:
            return {}
        models = [_untrained(ask.gradients.flat.model) for ask in asks]
        return {name: torch.stack([model[name] for model in models]) for name in self._differing}

    def _drawn(self, asks: Sequence[Ask], window: Window, own: Mapping[str, Tensor], inputs: Tensor) -> list[Tensor]:
        """Return the dropout masks of a forward in the order of its calls, shapes (K, B, ...)."""
        kind = (inputs.shape[1:], asks[0].gradients.precision)
        if kind not in self._drops:
            with torch.no_grad(), self._masks.watched() as self._drops[kind]:
                self._outputs({name: stacked[0] for name, stacked in {**own, **window.trained}.items()}, inputs[0])
        drops = self._drops[kind]
        return [torch.stack(masks) for masks in zip(*(_masks(ask, drops) for ask in asks), strict=True)]


def _drawn_batch(ask: Ask, part: Tensor) -> Batch:
    with ask.gradients.dropout:
        return ask.gradients.batch(part)


def _untrained(model: nn.Module) -> dict[str, Tensor]:
    """Return frozen parameters and buffers by name."""
    frozen = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {**frozen, **dict(model.named_buffers())}


def _masks(ask: Ask, drops: Sequence[Drop]) -> list[Tensor]:
    """Draw the masks of one replica."""
    if not drops:
        return []
    with ask.gradients.dropout, torch.no_grad():
        return [drop.mask() for drop in drops]
