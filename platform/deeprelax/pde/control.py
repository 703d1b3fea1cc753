"""SGD as a stochastic control problem, solved exactly on a grid.

Equations (SGD noise sqrt(1/beta), a loss f to descend, a terminal loss V to be low at time T)::

    dx = (-grad f(x) + a) dt + sqrt(1/beta) dW,       minimize  E V(x_T) + 1/2 E int |a|^2 dt
    u_t - grad f . grad u - |grad u|^2 / 2 + lap u / (2 beta) = 0,   u(., T) = V,   optimal a = -grad u
    v = exp(-beta u):   v_t - grad f . grad v + lap v / (2 beta) = 0,    so    v(x, t) = E_sgd exp(-beta V(x_T))

Hence ``u(x, 0) = E V(x_T) + 1/2 E int |a|^2 = -1/beta log E_sgd exp(-beta V(x_T))``. Ito's formula says more, on
*every* path::

    V(x_T) + 1/2 int |a|^2 dt + sqrt(1/beta) int a . dW = u(x_0, 0)

a constant, which makes a sharp test out of a noisy one. The controlled process has the terminal law of SGD reweighted
by exp(-beta V), so its expected terminal loss is below that of SGD. This is a theorem about a controlled SGD, not about
Entropy-SGD.

Reference: Chaudhari et al. 2017 (arXiv 1704.04932), the stochastic control interpretation; Fleming and Soner 2006.

Shapes: G nodes, N time steps, P paths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deeprelax.errors import ConfigError
from deeprelax.pde.generator import birth_death_generator, transition_matrix
from deeprelax.pde.grid import Grid
from deeprelax.pde.potentials import Potential


@dataclass(frozen=True, kw_only=True)
class PathCosts:
    """What each simulated path paid, every tensor of shape (P,).

    Args:
        terminal: V(x_T).
        energy: 1/2 int |a|^2 dt.
        martingale: sqrt(1/beta) int a . dW, of mean 0.
    """

    terminal: Tensor
    energy: Tensor
    martingale: Tensor


@dataclass(frozen=True, kw_only=True)
class ControlProblem:
    """The value function and the optimal control in 1-d.

    Args:
        loss: f, what SGD descends, of dimension 1.
        terminal: V, what is to be low at the end, of dimension 1.
        beta: inverse temperature of the SGD noise sqrt(1/beta), > 0.
        horizon: T > 0.
        steps: N, steps of the clock, >= 1; the value function is exact at them.
        grid: of dimension 1; holds the paths.

    Raises:
        ConfigError: a value is out of range, or exp(-beta V) is 0 in float64 somewhere on the grid.
    """

    loss: Potential
    terminal: Potential
    beta: float
    horizon: float
    steps: int
    grid: Grid

    def __post_init__(self) -> None:
        if not min(self.beta, self.horizon) > 0 or self.steps < 1:
            raise ConfigError(f"Invalid beta={self.beta}, horizon={self.horizon}, steps={self.steps}. Must be > 0.")
        if {self.loss.dimension, self.terminal.dimension, self.grid.dimension} != {1}:
            raise ConfigError("Invalid dimension. Must be 1 for the loss, the terminal loss and the grid.")
        if not bool((torch.exp(-self.beta * self._terminal_values) > 0).all()):
            raise ConfigError(
                f"Invalid {self.grid}: exp(-beta V) underflows on it. beta V must be < 700: use a narrower grid."
            )

    @property
    def dt(self) -> float:
        """Length of a step."""
        return self.horizon / self.steps

    @cached_property
    def values(self) -> Tensor:
        """Value function u at times 0, dt, ..., T on the nodes, shape (N + 1, G)."""
        move = self._transition
        v = [torch.exp(-self.beta * self._terminal_values)]
        for _ in range(self.steps):
            v.append(move @ v[-1])
        return -torch.log(torch.stack(v[::-1])) / self.beta

    @cached_property
    def controls(self) -> Tensor:
        """The optimal a = -u_x at the same times and nodes, shape (N + 1, G)."""
        return -torch.gradient(self.values, spacing=self.grid.spacing, dim=-1)[0]

    def value_at(self, x: float) -> float:
        """Return u(x, 0)."""
        return float(self._interpolate(self.values[0], torch.tensor(x, dtype=torch.float64)))

    def terminal_laws(self, x: float) -> tuple[Tensor, Tensor]:
        """Return the laws of x_T from x under SGD and under the optimal control, each of shape (G,).

        The second is the first times exp(-beta V), normalized. ``x`` is moved to the nearest node.
        """
        law = torch.zeros(self.grid.points, dtype=torch.float64)
        law[int((self.grid.axis() - x).abs().argmin())] = 1
        move = self._transition
        for _ in range(self.steps):
            law = law @ move
        tilted = law * torch.exp(-self.beta * self._terminal_values)
        return law, tilted / tilted.sum()

    def expected_losses(self, x: float) -> tuple[float, float]:
        """Return E V(x_T) from x under SGD and under the optimal control, without sampling."""
        plain, controlled = self.terminal_laws(x)
        return float(plain @ self._terminal_values), float(controlled @ self._terminal_values)

    def simulate(self, x: float, *, paths: int, controlled: bool, generator: torch.Generator) -> PathCosts:
        """Run P paths from x by Euler-Maruyama (weak order 1 in dt), with the optimal control or without.

        Args:
            x: start.
            paths: P.
            controlled: False = plain SGD.
            generator: source of the noise.
        """
        state = torch.full((paths,), x, dtype=torch.float64)
        energy, martingale = torch.zeros_like(state), torch.zeros_like(state)
        for step in range(self.steps):
            noise = math.sqrt(self.dt / self.beta) * torch.randn(paths, generator=generator, dtype=torch.float64)
            force = self._interpolate(self.controls[step], state) if controlled else torch.zeros_like(state)
            energy += force.square() * self.dt / 2
            martingale += force * noise
            state = state + (force - self.loss.gradient(state.unsqueeze(-1)).squeeze(-1)) * self.dt + noise
        return PathCosts(terminal=self.terminal(state.unsqueeze(-1)), energy=energy, martingale=martingale)

    @cached_property
    def _terminal_values(self) -> Tensor:
        return self.terminal(self.grid.nodes())

    @cached_property
    def _transition(self) -> Tensor:
        energy = self.loss(self.grid.nodes())
        generator = birth_death_generator(energy, spacing=self.grid.spacing, diffusion=1 / (2 * self.beta))
        return transition_matrix(generator, self.dt)

    def _interpolate(self, table: Tensor, x: Tensor) -> Tensor:
        place = ((x - self.grid.low) / self.grid.spacing).clamp(0, self.grid.points - 1)
        left = place.floor().clamp(max=self.grid.points - 2).long()
        part = place - left
        return (1 - part) * table[left] + part * table[left + 1]
