"""The dashboard in a real browser, over a sweep and a run that are going on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, expect, sync_playwright

from deeprelax.tuning.study import Study, Terms

pytestmark = pytest.mark.xdist_group("browser")  # one server and one browser for all

CHROMIUM = "/usr/bin/chromium"
SEEN = Path(os.environ.get("DEEPRELAX_SCREENSHOTS", "runs/screenshots"))
"""Folder of the pictures of every page."""

START_MS = 60_000
"""Time that a loaded machine may need to show a page for the first time."""

expect.set_options(timeout=START_MS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard")


@pytest.fixture(scope="module")
def study(folder: Path) -> Iterator[Study]:
    """Hold a study of which this process is a driver."""
    terms = Terms(
        metrics=("center/error",), directions=("minimize",), space={}, trials=30, sampler="random",
        settings={"trainable": "digits"},
    )  # fmt: skip
    with Study.open("digits-parle", terms, url=f"sqlite:///{folder}/studies.db") as opened:
        for _ in range(12):
            complete(opened)
        yield opened


def complete(study: Study) -> None:
    trial = study.ask()
    assert trial is not None
    lr = trial.suggest.suggest_float("lr", 1e-3, 0.3, log=True)
    shape = trial.suggest.suggest_categorical("rho.shape", ["const", "exp"])
    trial.note(cost={"bytes_exchanged": 1e6, "gradients": 100.0})
    trial.complete([abs(lr - 0.05) + 0.01 * (shape == "const") + 0.01])


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Train replicas for as long as the tests last."""
    command = [sys.executable, "-m", "deeprelax", "fit", "digits", "--local", "--epochs", "2000"]
    process = subprocess.Popen([*command, "--run-dir", str(folder / "runs" / "live")], stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def links(folder: Path, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Serve the pages; return the links that are printed, to read and to write."""
    for name in ("study", "run"):
        request.getfixturevalue(name)
    command = [sys.executable, "-m", "deeprelax", "dashboard", "--port", "0", "--write"]
    where = ["--study", f"sqlite:///{folder}/studies.db", "--runs", str(folder / "runs")]
    with subprocess.Popen([*command, *where], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = [re.search(r"http://\S+", server.stdout.readline()) for _ in range(2)]
        yield [link[0] for link in found if link is not None]
        server.terminate()


@pytest.fixture(scope="module")
def browser(needs: Callable[[str, str], None]) -> Iterator[Browser]:
    needs("chromium", CHROMIUM)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open a page; whatever it complains of on the console is an error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(START_MS)
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert said == []


def shown(page: Page, link: str, path: str) -> None:
    """Log in, open a path and wait until its figures are drawn."""
    host, _, token = link.partition("/?token=")
    page.goto(f"{host}{path}?token={token}")
    drawn(page)


def drawn(page: Page) -> None:
    """Wait until the figures of a page are there, if it has any."""
    expect(page.locator("body[data-drawn], body[data-figures='']")).to_be_attached()


@pytest.mark.parametrize(
    ("name", "path", "scheme"),
    [
        ("home", "/", "light"),
        ("sweep", "/sweeps/digits-parle", "dark"),
        ("run", "/runs/live", "light"),
        ("compare", "/compare?run=live", "dark"),
    ],
)
def test_every_page_is_accessible(page: Page, links: list[str], name: str, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a word of its list
    host = links[1].partition("/?token=")[0]
    page.goto(links[1])
    page.goto(f"{host}{path}")
    drawn(page)
    SEEN.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SEEN / f"{name}-{scheme}.png", full_page=True)
    found = Axe().run(page, options={"rules": {"svg-img-alt": {"enabled": False}}})  # plotly's own icons
    serious = [v["id"] for v in found.response["violations"] if v["impact"] in {"serious", "critical"}]
    assert serious == [], found.generate_report()


def test_a_run_moves_while_one_looks(page: Page, links: list[str]) -> None:
    shown(page, links[0], "/runs/live")
    newest = "document.querySelector('[data-figure=distance]').data[0].x.at(-1)"
    before, end = page.evaluate(newest), time.monotonic() + START_MS / 1e3
    while page.evaluate(newest) <= before:
        assert time.monotonic() < end, "the page stood still"
        page.wait_for_timeout(200)


def test_a_trial_that_ends_is_shown(page: Page, links: list[str], study: Study) -> None:
    shown(page, links[0], "/sweeps/digits-parle")
    complete_rows = page.locator("#trials .state.complete")
    before = complete_rows.count()
    complete(study)
    expect(complete_rows).to_have_count(before + 1)


def test_the_reader_sees_no_button(page: Page, links: list[str]) -> None:
    shown(page, links[0], "/sweeps/digits-parle")
    expect(page.get_by_role("button", name="Stop the sweep")).to_have_count(0)


def test_the_writer_stops_the_sweep_after_a_question(page: Page, links: list[str], study: Study) -> None:
    shown(page, links[1], "/sweeps/digits-parle")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Stop the sweep").click()
    assert not study.stop_requested
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop the sweep").click()
    expect(page.get_by_role("status")).to_contain_text("All drivers end")
    assert study.stop_requested


def test_the_pages_of_optuna_work_behind_our_login(page: Page, links: list[str]) -> None:
    page.goto(links[0])
    page.get_by_role("link", name="Optuna's own pages").click()
    expect(page.get_by_text("digits-parle").first).to_be_visible()


def test_without_a_token_one_is_asked_for(browser: Browser, links: list[str]) -> None:
    context = browser.new_context()
    page = context.new_page()
    host, _, token = links[0].partition("/?token=")
    answer = page.goto(f"{host}/sweeps/digits-parle")
    assert answer is not None
    assert answer.status == 401
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Sweeps")).to_be_visible()
    context.close()
