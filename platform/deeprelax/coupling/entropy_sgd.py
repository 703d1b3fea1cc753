"""Entropy-SGD: gradient descent on the local entropy, estimated by Langevin dynamics."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from deeprelax.coupling.base import Knobs
from deeprelax.coupling.fields import PeriodField, Positive
from deeprelax.coupling.inner import Force
from deeprelax.coupling.relaxation import Relaxation
from deeprelax.schedules import Schedule


class EntropySgd(Relaxation):
    """Entropy-SGD: x follows -∇f_γ(x) = -(x - <y>)/γ, the mean <y> taken along an inner Langevin chain.

    Equations:
        y ← y - η' [g(y) + (y - x)/γ] + sqrt(2η'/β) N(0, I)      L inner steps
        z ← α z + (1 - α) y
        x ← x - η (x - z);  y, z ← x

    The chain samples exp(-β [f(y) + |y - x|²/(2γ)]), the Gibbs measure of the local entropy
    f_γ(x) = -β⁻¹ log ∫ exp(-β f(y) - β|x - y|²/(2γ)) dy + const. Its noise has variance 2η'/β, not η'/β: the other
    convention, dx = -∇f dt + β^{-1/2} dW, samples exp(-2βf). With momentum m the chain is colder: noise enters y once,
    a gradient 1/(1 - m) times, so to first order it samples β/(1 - m). Use ``momentum=0`` where β itself matters.

    Accuracy: the drift (x - z)/γ has a bias of order 1 in η' (without momentum) and, averaged over a fixed part of the
    period, a standard error of order -1/2 in L.

    Symbols: γ ``gamma`` (1/γ is the paper's γ), β ``beta``, L ``period``, η' ``lr``, η ``outer_lr``, α ``averaging``.

    Memory: 2 copies (``anchor``, ``average``) beyond the inner optimizer's; 1 with ``averaging=0``; 1 more with
    ``outer_momentum``.

    Differs from the paper: ε-scaled noise is written as a temperature β; the weight of the newest sample in z is 1 - α
    (the paper's text and code disagree on it).

    Reference: Chaudhari et al. 2017, arXiv:1611.01838, alg. 1; in this notation Chaudhari et al. 2018, Deep relaxation,
    arXiv:1704.04932, eq. 8 and section 4.

    Args:
        beta: β > 0, inverse temperature of the inner chain; ``inf`` = no noise.

    Example:
        >>> EntropySgd(gamma="exp(100,1)", beta=1e8).vectors
        ('anchor', 'average')
    """

    period: PeriodField = Schedule(start=20.0)
    momentum_policy: Literal["keep", "reset"] = "reset"
    beta: Positive = Schedule(start=math.inf)

    single_replica: ClassVar[bool] = True

    def force(self, knobs: Knobs) -> Force:
        pull = super().force(knobs)
        return Force(
            anchor=pull.anchor,
            stiffness=pull.stiffness,
            average=pull.average,
            averaging=pull.averaging,
            noise=math.sqrt(2.0 * knobs["lr"] / knobs["beta"]),
        )
