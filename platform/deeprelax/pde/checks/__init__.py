"""The claims of the theory as checks with a bound; see :data:`CHECKS`."""

from __future__ import annotations

from deeprelax.pde.checks.sampling import InnerSampler, reference_sampler, t5
from deeprelax.pde.checks.table import CHECKS, Check, run_check, run_checks, select
from deeprelax.pde.checks.verdict import Convergence, Verdict

__all__ = [
    "CHECKS",
    "Check",
    "Convergence",
    "InnerSampler",
    "Verdict",
    "reference_sampler",
    "run_check",
    "run_checks",
    "select",
    "t5",
]
