"""The test bed: a potential whose independent paths are the coordinates of the replicas' weights.

The loss is the sum over paths, so the gradient of one path does not see the others, and one replica of the library
carries thousands of independent chains at the price of one.

Shapes: R replicas, P paths, d = dimension of the potential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from deeprelax.coupling import Coupling
from deeprelax.exchange.center import Center
from deeprelax.exchange.inprocess import run_together
from deeprelax.exchange.rounds import Rounds
from deeprelax.pde.potentials import Potential
from deeprelax.replica.replica import Replica, Steps

GradientNoise = Callable[[int, int], Tensor]
"""From (replica, step) to what is added to the gradient, shape (P, d)."""
Watch = Callable[[Replica], None]


class Paths(nn.Module):
    """P >= 2 points, each on its own copy of the potential, in two tensors: a step is not a tensor.

    Args:
        potential: f.
        starts: shape (P, d).
    """

    def __init__(self, potential: Potential, starts: Tensor) -> None:
        super().__init__()
        self.potential = potential
        first, second = starts.chunk(2)
        self.first = nn.Parameter(first.clone())
        self.second = nn.Parameter(second.clone())

    def backward(self, noise: Tensor | None = None) -> None:
        """Set the gradient of sum f(x) + noise . x over the paths, in closed form where the potential has one.

        Args:
            noise: shape (P, d); None = 0.
        """
        with torch.no_grad():
            slopes = self.potential.gradient(torch.cat([self.first, self.second]))
            slopes = slopes if noise is None else slopes + noise
            for parameter, slope in zip((self.first, self.second), slopes.split(len(self.first)), strict=True):
                assert parameter.grad is not None, "the replica's storage holds the gradients"
                parameter.grad.copy_(slope)


class Group:
    """The library's replicas on one potential, all in this process.

    Args:
        coupling: the method, with ``lr``.
        potential: f.
        starts: shape (R, P, d), float64.
        total_steps: length of the planned run, for schedules; None = not said.
        steps_per_pass: likewise.
        seed: of the library's own noise.
    """

    def __init__(
        self,
        coupling: Coupling,
        potential: Potential,
        starts: Tensor,
        *,
        total_steps: int | None = None,
        steps_per_pass: int | None = None,
        seed: int = 0,
    ) -> None:
        self.rounds = Rounds()
        self.replicas = [
            Replica(
                Paths(potential, start),
                coupling,
                index=index,
                seed=seed,
                steps_per_pass=steps_per_pass,
                total_steps=total_steps,
            )
            for index, start in enumerate(starts)
        ]

    def train(self, steps: int, *, noise: GradientNoise | None = None, watch: Watch | None = None) -> Group:
        """Take ``steps`` more mini-batch steps from an exchange; return this group.

        Args:
            steps: how many.
            noise: added to the gradients, called with steps counted from the start of the run; None = exact gradients.
            watch: called with every replica after every step.
        """
        first = self.replicas[0].position.step

        def loop(replica: Replica) -> Steps[None]:
            model = replica.flat.model
            assert isinstance(model, Paths)
            yield from replica.join()
            for step in range(first, first + steps):
                model.backward(None if noise is None else noise(replica.index, step))
                yield from replica.step()
                if watch is not None:
                    watch(replica)

        run_together([loop(replica) for replica in self.replicas], self.rounds)
        return self

    def continue_from(self, other: Group) -> Group:
        """Take the state that ``other`` reached, as from a checkpoint written at an exchange; return this group."""
        position = other.replicas[0].position
        assert other.rounds.center is not None, "the other group has not trained"
        center = Center.restored(_copies(other.rounds.center.state()))
        self.rounds = Rounds(center, position.step, position.exchanges)
        for new, old in zip(self.replicas, other.replicas, strict=True):
            new.restore(_copies(old.state()), step=position.step, exchanges=position.exchanges, coupling=old.coupling)
        return self

    def points(self, name: str = "fast") -> Tensor:
        """Return a copy of one vector of every replica as points, shape (R, P, d)."""
        return torch.stack([points_of(replica, name) for replica in self.replicas])


def points_of(replica: Replica, name: str = "fast") -> Tensor:
    """Return a copy of one of the replica's vectors as points, shape (P, d)."""
    weights = replica.weights[0]
    named = replica.flat.named([weights.fast if name == "fast" else weights[name]])
    return torch.cat([named["first"], named["second"]]).detach().clone()


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
