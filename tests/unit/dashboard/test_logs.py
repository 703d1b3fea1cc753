"""Long logs are thinned out, and what belongs together stays together."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from deeprelax.dashboard.logs import read_rows, thinned


@given(count=st.integers(0, 500), most=st.integers(2, 60), block=st.integers(1, 8))
def test_what_is_kept_is_spread_from_the_first_to_the_last(count: int, most: int, block: int) -> None:
    lines = [str(i).encode() for i in range(count)]
    kept = [int(line) for line in thinned(lines, most, block)]
    assert kept == sorted(set(kept))
    assert len(kept) <= max(most, 2 * block)
    assert kept[:1] + kept[-1:] == [*range(count)][:1] + [*range(count)][-1:]
    for i in kept:  # whole blocks
        first = i - i % block
        assert set(range(first, min(first + block, count))) <= set(kept) or count <= most


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2')
    assert read_rows(log, 10) == [{"step": 1}]
    assert read_rows(tmp_path / "none.jsonl", 10) == []
