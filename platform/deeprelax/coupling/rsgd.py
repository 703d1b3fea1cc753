"""Replicated SGD: Elastic-SGD whose spring balances itself."""

from __future__ import annotations

from deeprelax.coupling.elastic_sgd import ElasticSgd
from deeprelax.coupling.fields import Balanceable
from deeprelax.schedules import Schedule


class Rsgd(ElasticSgd):
    """Replicated SGD (rSGD): Elastic-SGD with the stiffness set by measurement and grown by a total factor.

    Equations:
        x^a ← x^a - η [g(x^a) + (x^a - x̄)/ρ];  x̄ ← mean_a x^a
        1/ρ(u) = κ G^u with κ = (mean training loss)/(mean_a |x^a - x̄|²), measured after the first data pass

    During the first data pass the replicas are free (1/ρ = 0). Symbols: G the argument of ``auto(G)``, u the part of
    the run.

    Memory: 1 copy (``center``) beyond the inner optimizer's.

    Differs from the paper: the paper multiplies the learning rate by n, since it averages the gradients of the
    replicated loss; here every replica takes its own full step, so give ``lr`` for one replica.

    Reference: Pittorino et al. 2021, arXiv:2006.07897, section 4 (focusing protocol; G = 1e4).

    Args:
        rho: ``auto(growth)``.

    Example:
        >>> from deeprelax.schedules import write
        >>> write(Rsgd(replicas=3).rho)
        'auto(10000)'
    """

    rho: Balanceable = Schedule(shape="auto", growth=1e4)
