"""``deeprelax verify``: the theory's checks, shown while they run, as a table, as JSON and as pictures."""

from __future__ import annotations

from deeprelax.verify.display import progress
from deeprelax.verify.reporting import report, summary
from deeprelax.verify.rows import ROWS, title
from deeprelax.verify.run import RowResult, Watcher, verify

__all__ = ["ROWS", "RowResult", "Watcher", "progress", "report", "summary", "title", "verify"]
