"""The library's own couplings against the oracles of the theory; see :data:`COUPLING_CHECKS`."""

from __future__ import annotations

from deeprelax.verify.couplings.table import COUPLING_CHECKS

__all__ = ["COUPLING_CHECKS"]
