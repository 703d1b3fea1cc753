"""``deeprelax verify``: the table of the theory on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from deeprelax.cli import main
from deeprelax.pde.checks import Verdict
from deeprelax.verify import table


def test_json_is_one_object_and_the_exit_code_is_0_when_all_claims_hold() -> None:
    ran = CliRunner().invoke(main, ["verify", "--only", "T12", "--only", "T13", "--json"])

    summary = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert summary["failed"] == 0
    assert {verdict["key"] for verdict in summary["verdicts"]} == {"T12", "T13"}


def test_the_exit_code_is_1_when_a_claim_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Verdict.at_most("T1", "a claim that does not hold", 2.0, 1.0)
    monkeypatch.setattr(table, "run_checks", lambda *_, **__: iter([("T1", (broken,))]))

    ran = CliRunner().invoke(main, ["verify"])

    assert ran.exit_code == 1
    assert "1 fail" in ran.stdout
    assert "FAILS" in ran.stderr


def test_an_unknown_row_names_the_rows_there_are() -> None:
    ran = CliRunner().invoke(main, ["verify", "--only", "T99"])

    assert ran.exit_code == 2
    assert "T13" in ran.stderr
