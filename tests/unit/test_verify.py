"""``deeprelax verify``: the theory on the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from deeprelax.cli import main
from deeprelax.pde.checks import CHECKS, Check, Verdict
from deeprelax.pictures import prepare
from deeprelax.verify import ROWS, progress, report, title, verify
from deeprelax.verify.display import TableProgress
from deeprelax.verify.pictures.files import PICTURES, draw_pictures


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["verify", *words])


def fails(seed: int) -> tuple[Verdict, ...]:
    """A row that fails."""
    return (
        Verdict.at_most("T1", f"a claim that does not hold with seed {seed}", 2.0, 1.0, "2 is not 1"),
        Verdict.at_most("T1", "not a number", float("nan"), 1.0),
    )


def holds(seed: int) -> tuple[Verdict, ...]:
    """A row that holds."""
    return (Verdict.at_least("T2", f"a claim that holds with seed {seed}", 2.0, 1.0),)


TABLE: dict[str, Check] = {"T1": fails, "T2": holds}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeprelax.verify.ROWS", TABLE)


# The command.


def test_json_is_one_object_and_the_exit_code_is_0_when_all_claims_hold() -> None:
    ran = run("--only", "T12", "--only", "T13", "--json")
    summary = json.loads(ran.stdout)
    assert ran.exit_code == 0
    assert (summary["failed"], summary["passed"]) == (0, len(summary["verdicts"]))
    assert [row["row"] for row in summary["rows"]] == ["T12", "T13"]
    assert {verdict["row"] for verdict in summary["verdicts"]} == {"T12", "T13"}
    assert {"claim", "measured", "bound", "relation", "passed", "detail", "seed"} < set(summary["verdicts"][0])
    assert summary["seconds"] > 0


def test_outside_a_terminal_each_verdict_is_one_line_on_standard_error() -> None:
    ran = run("--only", "T12,T13")
    lines = ran.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["T12"] * 2 + ["T13"] * 4
    assert all("holds" in line and "≤" in line for line in lines)
    assert ran.stdout.startswith("6 hold, 0 fail (2 rows, ")


@pytest.mark.usefixtures("broken")
def test_the_exit_code_is_1_when_a_claim_fails() -> None:
    ran = run()
    assert ran.exit_code == 1
    assert ran.stdout.startswith("1 hold, 2 fail (2 rows, ")
    failed, unknown, held = ran.stderr.splitlines()
    assert "FAILS  2 ≤ 1" in failed
    assert failed.endswith("a claim that does not hold with seed 0  (2 is not 1)")
    assert "FAILS  nan ≤ 1" in unknown
    assert "holds  2 ≥ 1" in held


@pytest.mark.usefixtures("broken")
def test_the_exit_code_is_1_with_json_too_and_what_is_no_number_is_null() -> None:
    ran = run("--json")
    summary = json.loads(ran.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert ran.exit_code == 1
    assert [verdict["measured"] for verdict in summary["verdicts"]] == [2.0, None, 2.0]
    assert [row["passed"] for row in summary["rows"]] == [False, True]


@pytest.mark.usefixtures("broken")
def test_each_row_runs_with_each_seed() -> None:
    ran = run("--only", "T2", "--seed", "5", "--seeds", "3", "--json")
    assert [row["seed"] for row in json.loads(ran.stdout)["rows"]] == [5, 6, 7]
    assert [verdict["claim"][-1] for verdict in json.loads(ran.stdout)["verdicts"]] == ["5", "6", "7"]
    assert "(1 row, 3 seeds, " in run("--only", "T2", "--seeds", "3").stdout


def test_list_shows_every_row_with_its_title_and_runs_none() -> None:
    ran = run("--list")
    assert ran.stdout.splitlines() == [f"{row:<5} {title(check)}" for row, check in ROWS.items()]
    assert ran.stderr == ""
    assert json.loads(run("--list", "--json").stdout) == {row: title(check) for row, check in ROWS.items()}


def test_rows_hold_the_theory_in_its_order() -> None:
    assert list(ROWS)[: len(CHECKS)] == list(CHECKS)
    assert all(title(check).endswith(".") for check in ROWS.values())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "T99"], ["Invalid check 'T99'", "T13", "Did you mean"]),
        (["--only", "T1,"], ["Invalid check ''"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--seeds", "0"], ["--seeds", "0"]),
        (["--plots", "/proc/self"], ["Invalid plots='/proc/self'", "Must be a folder that can be written"]),
        (["--plots", "/proc/pictures"], ["Invalid plots='/proc/pictures'", "Must be a folder that can be written"]),
        (["--markdown", "no.md"], ["Invalid markdown='no.md'", "No such file"]),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_error_before_anything_runs(words: list[str], says: list[str]) -> None:
    ran = run(*words)
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert "holds" not in ran.stderr
    for word in says:
        assert word in ran.stderr


def test_an_interrupt_is_no_failed_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int) -> tuple[Verdict, ...]:
        """Ctrl-C arrives."""
        raise KeyboardInterrupt(seed)

    monkeypatch.setattr("deeprelax.verify.ROWS", {"T1": interrupted})
    ran = run()
    assert ran.exit_code == 130
    assert ran.stderr == "Stopped.\n"


# The table on a terminal.


def screen(width: int = 100, height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_on_a_terminal_the_table_holds_every_claim() -> None:
    console = screen()
    with progress(TABLE, [0], console) as watcher:
        results = verify(watcher=watcher, rows=TABLE)
    text = shown(console)
    for word in ("row", "claim", "measured", "bound", "verdict", "time", "2 is not 1", "FAILS", "holds", "≤ 1", "≥ 1"):
        assert word in text
    assert [result.row for result in results] == ["T1", "T2"]


def below(table: TableProgress, console: Console) -> list[str]:
    with console.capture() as captured:
        console.print(table.live.get_renderable())
    return captured.get().splitlines()


def test_a_row_waits_runs_and_ends() -> None:
    console = screen()
    table = TableProgress([("T1", "first"), ("T2", "second")], console)
    assert [line.split()[-1] for line in below(table, console)] == ["waiting", "waiting"]
    table.started("T1", 0)
    running, waiting = below(table, console)
    assert ("T1" in running, "running" in running, running.endswith(" s")) == (True, True, True)
    assert ("T2" in waiting, "waiting" in waiting) == (True, True)
    (result,) = verify(["T1"], rows=TABLE)
    table.ended(result)
    assert [line.split()[0] for line in below(table, console)] == ["T2"]
    assert "a claim that does not hold" in shown(console)


def test_on_a_low_screen_the_rows_that_do_not_fit_are_counted() -> None:
    console = screen(height=10)
    table = TableProgress([(f"T{k}", "a row") for k in range(20)], console)
    lines = below(table, console)
    assert len(lines) < 10
    assert lines[-1] == f"… and {20 - len(lines) + 1} more"


# The pictures.

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    ran = run("--only", "T4,T13", "--plots", str(folder / "new"), "--json")
    assert ran.exit_code == 0, ran.output
    return [Path(file) for file in json.loads(ran.stdout)["plots"]]


def test_every_picture_is_an_svg_of_curves_without_a_date(pictures: list[Path]) -> None:
    assert [path.name for path in pictures] == [f"{name}.svg" for name in (*PICTURES, "orders")]
    for path in pictures:
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{SVG}svg"
        assert len(list(root.iter(f"{SVG}path"))) > 50
        assert "<dc:date>" not in path.read_text()
        assert path.stat().st_size < 250_000


def test_the_same_results_draw_the_same_bytes(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "decay")
    again = draw_pictures(tmp_path, verify(["T4"]))
    before = {path.name: path.read_bytes() for path in pictures}
    assert [path.name for path in again] == ["decay.svg", "orders.svg"]
    assert all(path.read_bytes() == before[path.name] for path in again)


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave out the other pictures, to save their time."""
    chosen = {name: PICTURES[name] for name in names}
    monkeypatch.setattr("deeprelax.verify.pictures.files.PICTURES", chosen)


def test_no_picture_of_orders_without_a_row_that_measures_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    assert draw_pictures(tmp_path, verify(["T13"])) == []


def test_without_matplotlib_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = run("--only", "T13", "--plots", str(tmp_path / "pictures"))
    assert ran.exit_code == 2
    assert "pip install 'deeprelax[plots]'" in ran.stderr
    assert "holds" not in ran.stderr
    assert not (tmp_path / "pictures").exists()
    assert run("--only", "T13").exit_code == 0


def test_a_file_in_the_place_of_the_folder_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("mine")
    with pytest.raises(ValueError, match="Must be a folder"):
        prepare(str(tmp_path / "pictures"))
    assert (tmp_path / "pictures").read_text() == "mine"


def test_orders_of_the_first_seed_only_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    results = verify(["T6b"], seeds=(3, 4))
    fitted = [verdict for result in results for verdict in result.verdicts if verdict.convergence]
    assert len(fitted) == 4
    assert report(results)["failed"] == 0
    draw_pictures(tmp_path, results)
    assert (tmp_path / "orders.svg").read_text().count('<g id="axes_') == 2
