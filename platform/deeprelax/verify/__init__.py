"""``deeprelax verify``: the theory's checks, shown while they run."""

from __future__ import annotations

from deeprelax.verify.table import report, verify

__all__ = ["report", "verify"]
