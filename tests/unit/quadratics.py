"""The test bed of the couplings: a noisy quadratic in float64, its gradient as a formula, and runs with a record.

The noise of step k on replica a is a fixed table, so a literal recursion written in a test can use the same numbers.
Shapes: R replicas, K steps, P parameters (8, in two tensors), X exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deeprelax.coupling import Coupling
from deeprelax.coupling.message import Message, Reply
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.replica.replica import Replica

SIZE = 8
TOLERANCE = 1e-12


def _table(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


_ROOT = _table(1, SIZE, SIZE)
HESSIAN = _ROOT @ _ROOT.T / SIZE + 0.1 * torch.eye(SIZE, dtype=torch.float64)
MINIMUM = _table(2, SIZE)
START = _table(3, SIZE)


class Quadratic(nn.Module):
    """f(p) = (p - c)ᵀ H (p - c)/2 over two parameters, so that the flat vector has padding in it and at its end."""

    def __init__(self, start: Tensor = START) -> None:
        super().__init__()
        self.matrix = nn.Parameter(start[:6].reshape(2, 3).clone())
        self.bias = nn.Parameter(start[6:].clone())

    def forward(self, noise: Tensor) -> Tensor:
        """Return the loss whose gradient is H (p - c) + noise."""
        point = torch.cat([self.matrix.flatten(), self.bias])
        gap = point - MINIMUM
        return 0.5 * gap @ HESSIAN @ gap + noise @ point


def gradient(point: Tensor, noise: Tensor) -> Tensor:
    """Return the gradient of :class:`Quadratic` as a formula."""
    return HESSIAN @ (point - MINIMUM) + noise


def noise_table(replicas: int, steps: int, scale: float = 0.3) -> Tensor:
    """Return gradient noise, shape (R, K, P); replicas differ."""
    return scale * _table(4, replicas, steps, SIZE)


def spread_starts(replicas: int) -> Tensor:
    """Return independent starting points, shape (R, P)."""
    return START + 0.5 * _table(5, replicas, SIZE)


def close(left: Tensor, right: Tensor) -> None:
    """Assert equality within 1e-12, relative to numbers of order 1."""
    torch.testing.assert_close(left, right, rtol=TOLERANCE, atol=TOLERANCE)


@dataclass
class Run:
    """The replicas at their end, the center after each exchange (X, P), the weights after each step (R, K, P)."""

    replicas: list[Replica]
    rounds: Rounds
    centers_seen: list[list[Tensor]]
    points_seen: list[list[Tensor]]

    @property
    def centers(self) -> Tensor:
        return torch.stack(self.centers_seen[0])

    @property
    def points(self) -> Tensor:
        return torch.stack([torch.stack(seen) for seen in self.points_seen])


def point_of(replica: Replica, vector: Tensor | None = None) -> Tensor:
    """Return a flat vector (default: the fast weights) without its padding, shape (P,)."""
    named = replica.flat.named([replica.weights[0].fast if vector is None else vector])
    return torch.cat([named["matrix"].flatten(), named["bias"]]).clone()


def kept(replica: Replica, name: str) -> Tensor:
    """Return the vector ``name`` without its padding, shape (P,)."""
    return point_of(replica, replica.weights[0][name])


def train(
    coupling: Coupling,
    noise: Tensor,
    *,
    starts: Tensor | None = None,
    optimizer: Callable[[nn.Module], Optimizer] | None = None,
    finish: bool = False,
    between: Callable[[Replica], None] | None = None,
    planned_steps: int | None = None,
) -> Run:
    """Train on the quadratic with the gradient noise of the table, all replicas in this process.

    Args:
        noise: shape (R, K, P).
        starts: shape (R, P); default all from ``START``.
        optimizer: makes a user's own inner optimizer.
        finish: whether to exchange what the last, incomplete period found.
        between: called with the replica after every step.
        planned_steps: length of the run, of two data passes; default: as long as the table.
    """
    count, steps, _ = noise.shape
    planned = planned_steps or steps
    points = START.expand(count, SIZE) if starts is None else starts
    replicas = []
    for a in range(count):
        model = Quadratic(points[a])
        replicas.append(
            Replica(
                model,
                coupling,
                index=a,
                optimizer=optimizer(model) if optimizer else None,
                steps_per_pass=max(planned // 2, 1),
                total_steps=planned,
            )
        )
    run = Run(replicas, Rounds(), [[] for _ in replicas], [[] for _ in replicas])

    def loop(a: int) -> Generator[Message, Reply, None]:
        replica = replicas[a]
        yield from replica.join()
        for k in range(steps):
            replica.flat.zero_grad()
            loss = replica.flat.model(noise[a, k])
            loss.backward()
            reply = yield from replica.step(loss)
            run.points_seen[a].append(point_of(replica))
            if reply is not None:
                run.centers_seen[a].append(point_of(replica, replica.center()[0]))
            if between is not None:
                between(replica)
        if finish and (yield from replica.finish()) is not None:
            run.centers_seen[a].append(point_of(replica, replica.center()[0]))

    run_together([loop(a) for a in range(count)], run.rounds)
    return run


def torch_sgd(points: Tensor, noise: Tensor, **options: float | bool) -> Tensor:
    """Return the weights of independent runs of ``torch.optim.SGD`` after each step, shape (R, K, P)."""
    runs = []
    for start, table in zip(points, noise, strict=True):
        model = Quadratic(start)
        optimizer = torch.optim.SGD(model.parameters(), **options)  # type: ignore[arg-type]
        seen = []
        for one in table:
            optimizer.zero_grad()
            model(one).backward()
            optimizer.step()
            seen.append(torch.cat([model.matrix.detach().flatten(), model.bias.detach()]).clone())
        runs.append(torch.stack(seen))
    return torch.stack(runs)
