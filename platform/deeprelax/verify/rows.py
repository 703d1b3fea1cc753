"""The rows there are: the theory by itself, and the library's own couplings against it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deeprelax.pde.checks import CHECKS, Check
from deeprelax.verify.couplings import COUPLING_CHECKS

ROWS: Mapping[str, Check] = MappingProxyType({**CHECKS, **COUPLING_CHECKS})
"""Row -> check, in the order of the report."""


def title(check: Check) -> str:
    """Return what a check is about: the first line of its docstring."""
    return (check.__doc__ or "").partition("\n")[0]
