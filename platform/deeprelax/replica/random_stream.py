"""Random numbers of one replica even where replicas share a process (dropout draws from torch's global generator)."""

from __future__ import annotations

import torch
from torch import Tensor


class RandomStream:
    """A replica's own state of torch's global generators, swapped in while the replica computes.

    Args:
        seed: of the stream.
        device: its CUDA generator is part of the stream.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(self._devices, device_type="cuda"):
            torch.manual_seed(seed)
            self._states = self._read()

    def __enter__(self) -> None:
        self._outside = self._read()
        self._write(self._states)

    def __exit__(self, *_: object) -> None:
        self._states = self._read()
        self._write(self._outside)

    def state(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint."""
        return {f"dropout.{i}": state for i, state in enumerate(self._states)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take the state back out of a checkpoint's tensors."""
        self._states = [tensors.pop(f"dropout.{i}") for i in range(len(self._states))]

    def _read(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._devices)]

    def _write(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._devices, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)
