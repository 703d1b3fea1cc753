"""A replica of 12,040 parameters and its loop, small enough for processes and large enough for slices."""

from __future__ import annotations

import torch
from torch import nn

from deeprelax.coupling import Coupling
from deeprelax.replica.replica import Replica, Steps


def steps_of(coupling: Coupling, index: int, steps: int) -> tuple[Replica, Steps[None]]:
    """Return a replica and its loop of so many steps, from its join to its last exchange."""
    torch.manual_seed(0)
    replica = Replica(nn.Linear(300, 40), coupling, index=index, total_steps=steps)

    def loop() -> Steps[None]:
        yield from replica.join()
        for step in range(steps):
            replica.flat.zero_grad()
            inputs = torch.randn(8, 300, generator=torch.Generator().manual_seed(100 * index + step))
            replica.flat.model(inputs).square().mean().backward()
            yield from replica.step()
        yield from replica.finish()

    return replica, loop()
