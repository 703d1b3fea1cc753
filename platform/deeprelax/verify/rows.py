"""The rows there are: the theory by itself, from :mod:`deeprelax.pde.checks`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from deeprelax.pde.checks import CHECKS, Check

ROWS: Mapping[str, Check] = MappingProxyType({**CHECKS})
"""Row -> check, in the order of the report."""


def title(check: Check) -> str:
    """Return what a check is about: the first line of its docstring."""
    return (check.__doc__ or "").partition("\n")[0]
