"""Elastic averaging SGD with momentum."""

from __future__ import annotations

from deeprelax.coupling.easgd import Easgd
from deeprelax.coupling.fields import Momentum


class Eamsgd(Easgd):
    """EAMSGD: EASGD with Nesterov momentum in the local step; the elastic pull stays outside the momentum.

    Equations:
        v^a ← δ v^a + g(x^a);  x^a ← x^a - η (g + δ v^a)      each mini-batch (torch's Nesterov form)
        the elastic exchange of :class:`~deeprelax.coupling.easgd.Easgd` every τ steps

    Symbols: δ ``momentum`` (the paper uses .99), τ ``period``, the rest as in EASGD. δ = 0 is EASGD.

    Memory: 1 copy (``center``) beyond the inner optimizer's.

    Differs from the paper: the paper evaluates the gradient at x + δv (Nesterov's own form); torch's form, used by
    every method here, is the same sequence seen from x + δv.

    Reference: Zhang, Choromanska, LeCun 2015, arXiv:1412.6651, section 3.2, eq. 7-8.

    Example:
        >>> Eamsgd(replicas=4, momentum=0.99).alpha
        0.225
    """

    momentum: Momentum = 0.9
