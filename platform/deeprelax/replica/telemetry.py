"""What a replica measures about itself: loss, forces, distance to the center."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deeprelax.coupling.inner import Force
from deeprelax.coupling.weights import Weights
from deeprelax.errors import ConfigError

TELEMETRY_EVERY_STEPS = 25


class Probe:
    """Collects measurements between two rows of telemetry.

    Losses are summed on their device and read once a row; norms are taken at most once in ``TELEMETRY_EVERY_STEPS``
    steps, at an exchange, so a method that exchanges at every step does not pay for them.
    """

    def __init__(self) -> None:
        self._loss = 0.0
        self._losses: list[Tensor] = []
        self._count = 0
        self._last_row = -1
        self._measured: dict[str, float] = {}
        self._run_loss = 0.0
        self._run_count = 0

    def saw(self, loss: Tensor | None) -> None:
        """Note a mini-batch loss, a scalar tensor on any device."""
        if loss is not None:
            self._losses.append(loss.detach())

    def due(self, step: int) -> bool:
        """Return whether forces and distances are to be measured at ``step``."""
        return self._last_row < 0 or step - self._last_row >= TELEMETRY_EVERY_STEPS

    def measure_forces(self, weights: Sequence[Weights], force: Force, lr: float) -> None:
        """Note the norms of gradient and spring, and the noise of a step relative to the gradient's."""
        gradient = _norm([w.grad for w in weights])
        self._measured["grad_norm"] = gradient
        if not gradient:
            return
        if force.anchor:
            stretch = _norm([w.fast - w[force.anchor] for w in weights])
            self._measured["spring_ratio"] = force.stiffness * stretch / gradient
        if force.noise and lr:
            size = sum(w.size for w in weights)
            self._measured["noise_ratio"] = force.noise * math.sqrt(size) / (lr * gradient)

    def measure_gap(self, vectors: Sequence[Tensor], center: Sequence[Tensor]) -> None:
        """Note the distance of what was sent to what came back, and the norm of the latter."""
        self._measured["distance"] = _norm([v - c for v, c in zip(vectors, center, strict=True)])
        self._measured["center_norm"] = _norm(center)

    def measure_staleness(self, exchanges: int) -> None:
        """Note how many exchanges of others the center has seen since this replica pulled it the last time."""
        self._measured["staleness"] = float(exchanges)

    def mean_loss(self) -> float:
        """Return the mean loss since the start of the run.

        Raises:
            ConfigError: no loss was ever seen.
        """
        total, count = self.losses()
        if not count:
            raise ConfigError("Missing loss. A spring rho=auto(...) is balanced against it; give step(loss).")
        return total / count

    def losses(self) -> tuple[float, int]:
        """Return the sum of the losses since the start of the run, and their number."""
        self._drain()
        return self._run_loss, self._run_count

    def state(self) -> Tensor:
        """Return what a resumed run needs to continue the sums and the row that is being collected, shape (5,)."""
        self._drain()
        numbers = [self._run_loss, self._run_count, self._loss, self._count, self._last_row]
        return torch.tensor(numbers, dtype=torch.float64)

    def restore(self, state: Tensor) -> None:
        """Take back what :meth:`state` returned."""
        self._run_loss, self._loss = float(state[0]), float(state[2])
        self._run_count, self._count, self._last_row = int(state[1]), int(state[3]), int(state[4])

    def take(self, step: int) -> dict[str, float]:
        """Return the row of measurements made since the last one, with the mean loss, and begin a new row."""
        if "distance" not in self._measured:
            return {}
        self._drain()
        row = self._measured
        if self._count:
            row["loss"] = self._loss / self._count
        self._measured, self._loss, self._count, self._last_row = {}, 0.0, 0, step
        return row

    def _drain(self) -> None:
        # One by one in float64, so that the sum does not depend on how often it was asked for.
        losses = torch.stack(self._losses).tolist() if self._losses else []
        for loss in losses:
            self._loss += loss
            self._run_loss += loss
        self._count += len(losses)
        self._run_count += len(losses)
        self._losses = []


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(tensor)) ** 2 for tensor in tensors))
