"""The rows that run the library's own couplings against the oracles."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deeprelax.pde.checks import Check
from deeprelax.verify.couplings.bounds import c7
from deeprelax.verify.couplings.counters import t15
from deeprelax.verify.couplings.entropy import c1, t5c
from deeprelax.verify.couplings.equalities import t14
from deeprelax.verify.couplings.mean_field import c8
from deeprelax.verify.couplings.parle import c4
from deeprelax.verify.couplings.quadratics import c5, c6
from deeprelax.verify.couplings.smoothers import c2, c3

COUPLING_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "T5c": t5c,
        "T14": t14,
        "T15": t15,
        "C1": c1,
        "C2": c2,
        "C3": c3,
        "C4": c4,
        "C5": c5,
        "C6": c6,
        "C7": c7,
        "C8": c8,
    }
)
"""Row -> function of the seed, in the order of the report; the first docstring line is the row's title."""
