"""Nobody sees a page without a token, and nobody changes anything without the one that allows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.unit.dashboard.pages import READER, TOKENS, WRITER, client, run, study

from deeprelax.dashboard.access import Guard, Tokens

MOUNTED = ("/dashboard", "/api/studies", "/static/bundle.js", "/assets/app.js")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("site")
    study(folder)
    run(folder / "runs" / "one")
    with client(folder) as made:
        yield made


def paths(site: TestClient) -> list[tuple[str, str]]:
    """Return method and a path of every route of the application, and of what is mounted."""
    guard = site.app
    assert isinstance(guard, Guard)
    app = guard._app
    assert isinstance(app, FastAPI)
    example = {"{path}": "one", "{name}": "parabola", "{number}": "0"}
    found = [("GET", path) for path in MOUNTED]
    for template, methods in app.openapi()["paths"].items():
        path = template
        for name, value in example.items():
            path = path.replace(name, value)
        found += [(method.upper(), path) for method in methods]
    return found


def test_every_route_asks_for_the_token(site: TestClient) -> None:
    asked = paths(site)
    assert len(asked) > 12
    for method, path in asked:
        assert site.request(method, path).status_code == 401, path
        assert site.request(method, path, headers={"Authorization": "Bearer wrong"}).status_code == 401, path
        assert site.request(method, path, headers={"Cookie": "deeprelax=wrong"}).status_code == 401, path


def test_a_link_with_the_token_logs_in_and_drops_it_from_the_address(site: TestClient) -> None:
    answer = site.get("/runs/one?against=bytes&token=reads")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs/one?against=bytes"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    site.cookies.clear()
    assert site.get("/runs/one", headers={"Cookie": "deeprelax=reads"}).status_code == 200


def test_a_wrong_token_is_told_so_and_sets_nothing(site: TestClient) -> None:
    answer = site.get("/?token=wrong")
    assert answer.status_code == 401
    assert "This is not the token" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_link_never_leads_to_another_server(site: TestClient) -> None:
    assert site.get("http://deeprelax.test//evil.example/?token=reads").headers["location"].startswith("/evil")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/sweeps/parabola/stop"), ("DELETE", "/api/studies/1"), ("POST", "/api/studies"), ("PUT", "/api/x")],
)
def test_who_may_read_may_not_write(site: TestClient, method: str, path: str) -> None:
    assert site.request(method, path, headers=READER).status_code == 403


def test_a_page_elsewhere_cannot_write_with_the_cookie_of_a_user(site: TestClient) -> None:
    cookie = {"Cookie": "deeprelax=writes"}
    for origin in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        answer = site.post("/sweeps/parabola/stop", headers=cookie | origin)
        assert answer.status_code == 403, origin
    own = site.post("/sweeps/parabola/stop", headers=cookie | {"Origin": "http://deeprelax.test"})
    assert own.status_code == 200


def test_pages_forbid_foreign_scripts_and_frames(site: TestClient) -> None:
    ours = site.get("/", headers=READER).headers["content-security-policy"]
    assert "script-src 'self';" in ours
    for path in ("/", "/dashboard", "/nothing"):
        headers = site.get(path, headers=READER).headers
        assert "unsafe-inline" not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
        assert headers["x-frame-options"] == "DENY", path
        assert headers["x-content-type-options"] == "nosniff"


def test_tokens_are_not_shown() -> None:
    assert "reads" not in repr(TOKENS)
    assert Tokens.drawn().write is None
    assert Tokens.drawn(write=True).write != Tokens.drawn(write=True).write


def test_the_writer_may_read(site: TestClient) -> None:
    assert site.get("/", headers=WRITER).status_code == 200
