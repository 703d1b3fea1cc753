"""The web application: our pages, the data behind them, and optuna-dashboard below both; the guard before all."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from a2wsgi import WSGIMiddleware
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from optuna_dashboard import wsgi  # type: ignore[import-untyped]
from starlette.staticfiles import StaticFiles

from deeprelax.dashboard.access import Guard, Tokens
from deeprelax.dashboard.actions import actions
from deeprelax.dashboard.live import live
from deeprelax.dashboard.pages import pages
from deeprelax.dashboard.runs import Runs
from deeprelax.dashboard.sweeps import Sweeps
from deeprelax.errors import DeepRelaxError

_HERE = Path(__file__).parent


def create_app(sweeps: Sweeps, runs: Runs, tokens: Tokens, *, secure: bool = False) -> Guard:
    """Return the application, which answers nobody without a token.

    Args:
        sweeps: of the study's database.
        runs: under the folder of runs.
        tokens: that open the pages.
        secure: it is reached by TLS.
    """
    app = FastAPI(title="deeprelax", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(DeepRelaxError, _unknown)
    app.include_router(pages(sweeps, runs))
    app.include_router(live(sweeps, runs))
    app.include_router(actions(sweeps))
    app.add_api_route("/assets/plotly.js", _plotly)
    app.mount("/assets", StaticFiles(directory=_HERE / "static"))
    # It knows absolute paths only (/dashboard, /api, /static), so it takes what is left of the root.
    optuna_pages = WSGIMiddleware(wsgi(sweeps.database.storage))
    app.mount("/", optuna_pages)  # type: ignore[arg-type]  # the same protocol, typed more narrowly
    return Guard(app, tokens, secure=secure)


def _plotly() -> FileResponse:
    """Return plotly's JavaScript as its Python package holds it; the package itself need not be imported."""
    found = find_spec("plotly")
    assert found is not None
    assert found.origin is not None
    script = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


def _unknown(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 404)
