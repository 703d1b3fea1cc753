"""``docs/theory.md`` and the command that makes its table and pictures say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from deeprelax.cli import main
from deeprelax.verify import ROWS, title, verify
from deeprelax.verify.markdown import BEGIN, END, escaped, write_page
from deeprelax.verify.pictures.files import PICTURES

PAGE = Path(__file__).resolve().parents[2] / "docs/theory.md"
REMAKE = "deeprelax verify --plots docs/img/theory --markdown docs/theory.md"
ROW = r"\b[TC]\d+[a-z]?\b"


def parts() -> tuple[str, str]:
    """Return the page without its table, and the table."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    table, _, after = rest.partition(END)
    return before + after, table


def test_the_table_has_every_row_and_no_other_with_its_title() -> None:
    found = re.findall(r"^\| \*\*(\S+)\*\* \| \*\*(.+)\*\* \| \| \| \|$", parts()[1], flags=re.MULTILINE)
    assert found == [(row, escaped(title(check))) for row, check in ROWS.items()], "run: " + REMAKE


def test_the_page_names_the_command_that_makes_it() -> None:
    assert REMAKE in parts()[0]


def test_the_text_speaks_of_every_row_and_of_no_other() -> None:
    assert set(re.findall(ROW, parts()[0])) == set(ROWS)


def test_the_table_has_the_claims_of_today_and_all_of_them_hold() -> None:
    table = parts()[1]
    for result in verify(["T8", "T9", "T11", "T12", "T13"]):
        for verdict in result.verdicts:
            assert f"| | {escaped(verdict.claim)}" in table, f"run: {REMAKE}"
    assert "FAILS" not in table
    assert ", 0 fail. Seed 0;" in table


def test_every_picture_is_shown_and_every_shown_picture_is_there() -> None:
    shown = re.findall(r"!\[(.+)\]\((.+)\)", parts()[0])
    assert {path for _, path in shown} == {f"img/theory/{name}.svg" for name in (*PICTURES, "orders")}
    assert {path.name for path in (PAGE.parent / "img/theory").iterdir()} == {Path(path).name for _, path in shown}
    for words, path in shown:
        assert len(words.split()) > 5, "a picture needs a text for who cannot see it"
        assert (PAGE.parent / path).read_text().startswith("<?xml")


def test_nothing_vanishes_as_an_html_tag() -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", PAGE.read_text(), flags=re.DOTALL)
    assert re.findall(r"(?<!\\)<(?!!-- deeprelax verify)[a-zA-Z/!]\S*", text) == []


def test_only_what_is_between_the_marks_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{BEGIN}\nyesterday\n{END}\nbelow\n")
    ran = CliRunner().invoke(main, ["verify", "--only", "T13", "--markdown", str(page)])
    assert ran.exit_code == 0, ran.output
    text = page.read_text()
    assert text.startswith(f"above\n{BEGIN}\n\n| row | claim | measured | bound | |\n")
    assert text.endswith(f"\n{END}\nbelow\n")
    assert "yesterday" not in text
    assert "lr h \\< 2(1+m)/(1+2m)" in text
    write_page(str(page), verify(["T13"]))
    assert page.read_text() == text
    write_page(str(page), verify(["T13"], seeds=(0, 1)))
    assert "on 8000 random points. Seed 1.**" in page.read_text()


@pytest.mark.parametrize("text", ["", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"])
def test_a_page_without_both_marks_is_refused_and_kept(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    ran = CliRunner().invoke(main, ["verify", "--only", "T13", "--markdown", str(page)])
    assert ran.exit_code == 2
    assert BEGIN in ran.stderr
    assert "holds" not in ran.stderr
    assert page.read_text() == text
