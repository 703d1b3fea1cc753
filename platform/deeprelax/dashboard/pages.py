"""The pages, and the data of their figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.templating import Jinja2Templates

from deeprelax.dashboard import words
from deeprelax.dashboard.figures.figure import Figure
from deeprelax.dashboard.figures.run import AXES, compared, run_figures
from deeprelax.dashboard.figures.schedules import schedule_figures
from deeprelax.dashboard.figures.sweep import sweep_figures
from deeprelax.dashboard.runs import Runs
from deeprelax.dashboard.sweeps import Sweep, Sweeps
from deeprelax.tuning.sweep.standing import LEADING

Against = Literal["step", "seconds", "bytes"]
RunPaths = Annotated[list[str], Query()]


def pages(sweeps: Sweeps, runs: Runs) -> APIRouter:
    """Return the routes that are read."""
    router = APIRouter()
    templates = Jinja2Templates(Path(__file__).parent / "templates")
    templates.env.filters.update(words.FILTERS)

    def page(request: Request, name: str, **shown: object) -> HTMLResponse:
        role = request.scope["state"]["role"]
        return templates.TemplateResponse(request, f"{name}.html", {"role": role, **shown})

    @router.get("/")
    def home(request: Request) -> HTMLResponse:
        listed = sweeps.database.studies()[::-1]
        return page(request, "home", sweeps=listed, runs=runs.newest(), root=runs.root, study=sweeps.database.address)

    def drawn_of(found: Sweep) -> list[Figure]:
        leading = [trial.number for trial in found.standing.leading(LEADING)]
        return [*sweep_figures(found), *schedule_figures(runs.configs(found.name, leading))]

    @router.get("/sweeps/{name}")
    def sweep(request: Request, name: str) -> HTMLResponse:
        found = sweeps.read(name)
        return page(request, "sweep", sweep=found, figures=drawn_of(found), runs_of=runs.of_trial)

    @router.get("/data/sweeps/{name}")
    def sweep_data(name: str) -> JSONResponse:
        return _drawn(drawn_of(sweeps.read(name)))

    @router.get("/runs/{path:path}")
    def run(request: Request, path: str, against: Against = "step") -> HTMLResponse:
        found = runs.read(path)
        shown = run_figures(found, against)
        return page(request, "run", run=found, figures=shown, axes=AXES, against=against)

    @router.get("/data/runs/{path:path}")
    def run_data(path: str, against: Against = "step") -> JSONResponse:
        return _drawn(run_figures(runs.read(path), against))

    @router.get("/compare")
    def compare(request: Request, run: RunPaths, against: Against = "step") -> HTMLResponse:
        found = {path: runs.read(path) for path in run}
        return page(request, "compare", runs=found, figures=compared(found, against), axes=AXES, against=against)

    @router.get("/data/compare")
    def compare_data(run: RunPaths, against: Against = "step") -> JSONResponse:
        return _drawn(compared({path: runs.read(path) for path in run}, against))

    return router


def _drawn(figures: Sequence[Figure]) -> JSONResponse:
    return JSONResponse({figure.name: figure.drawn() for figure in figures})
