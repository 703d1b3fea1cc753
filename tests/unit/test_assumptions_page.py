"""The page about what a run survives names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "assumptions.md").read_text()))
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert len(named) > 10
    assert [name for name in sorted(named) if f"def {name}(" not in code] == []
