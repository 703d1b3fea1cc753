"""A chain of states whose law is the Gibbs measure of the local entropy, at any step size.

Equations, with v = y - x the place around the anchor x and a weight s in [0, 1] of the loss ("scoping")::

    p_s(y)  ~  exp(-beta (s f(y) + |y - x|^2 / (2 gamma)))          s = 0: the free cloud N(x, gamma/beta); s = 1: Gibbs
    v*      =  ((1 - h/2) v - lr s grad f(y) + sqrt(2 lr / beta) N(0, I)) / (1 + h/2),        h = lr / gamma
    accept v* with probability min(1, exp(r(v, v*) - r(v*, v)))
    r(u, w) =  beta s (f(u) + <w - u, g>/2 + h/4 <u + w, g> + h/4 gamma s |g|^2),            g = grad f at u

The proposal is the inner step of Entropy-SGD with the noise sqrt(2 lr / beta) that the Gibbs measure needs (the SDE of
SGD with sqrt(1/beta) dW would have the law exp(-2 beta H)), but with the spring taken at the mean of both ends
(Crank-Nicolson). The spring and the noise alone then have the exact law at any lr and in any dimension, so most of a
network's directions, which are flat, cost no bias; the test of acceptance removes that of the others.

Reference: Cotter, Roberts, Stuart, White 2013 (arXiv 1202.0709), the pCNL proposal and its acceptance, section 4.

Shapes: P = trained parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeprelax.flatness.landscape import Landscape


@dataclass(frozen=True)
class State:
    """Where a chain is.

    Args:
        offset: v = y - x, shape (P,).
        value: f(y).
        gradient: grad f(y), shape (P,).
    """

    offset: Tensor
    value: float
    gradient: Tensor


@dataclass(kw_only=True)
class GibbsChain:
    """Draws states around the landscape's own point.

    Args:
        landscape: f and x.
        gamma: smoothing time.
        beta: inverse temperature.
        stiffest: the largest curvature of f nearby, >= 0; steps are made for it.
        generator: source of the noise, on the CPU, so that all devices see the same.

    Attributes:
        accepted: proposals taken.
        proposed: proposals made.
    """

    landscape: Landscape
    gamma: float
    beta: float
    stiffest: float
    generator: torch.Generator
    accepted: int = 0
    proposed: int = 0

    def free(self) -> State:
        """Draw from the free cloud N(x, gamma/beta)."""
        return self._at(math.sqrt(self.gamma / self.beta) * self._noise())

    def step(self, state: State, scale: float) -> State:
        """Return the next state under p_s, which it leaves as it is.

        Args:
            state: present one.
            scale: s, in (0, 1].
        """
        lr = self._lr(scale)
        h = lr / self.gamma
        noise = math.sqrt(2 * lr / self.beta) * self._noise()
        offset = ((1 - h / 2) * state.offset - lr * scale * state.gradient + noise) / (1 + h / 2)
        proposal = self._at(offset)
        gain = self._balance(state, proposal, scale, h) - self._balance(proposal, state, scale, h)
        chance = float(torch.empty((), dtype=torch.float64).exponential_(generator=self.generator))
        accepted = gain > -chance  # -chance has the law of log of a uniform number; a gain that is nan is refused
        self.proposed += 1
        self.accepted += accepted
        return proposal if accepted else state

    def _lr(self, scale: float) -> float:
        """Return 2 gamma, at which flat directions forget everything, but at most half of what stiff ones bear.

        A direction of curvature c = s ``stiffest`` is stable below lr = 2 / c.
        """
        return 2 * self.gamma / (1 + 2 * self.gamma * scale * self.stiffest)

    def _balance(self, here: State, there: State, scale: float, h: float) -> float:
        g = here.gradient.double()
        along = torch.dot((there.offset - here.offset).double(), g) / 2
        across = h / 4 * torch.dot((there.offset + here.offset).double(), g)
        square = h / 4 * self.gamma * scale * torch.dot(g, g)
        return self.beta * scale * (here.value + float(along + across + square))

    def _at(self, offset: Tensor) -> State:
        value, gradient = self.landscape.value_and_gradient(self.landscape.point + offset)
        return State(offset, value, gradient)

    def _noise(self) -> Tensor:
        like = self.landscape.point
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype).to(like.device)
