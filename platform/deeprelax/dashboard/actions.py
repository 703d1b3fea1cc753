"""What somebody with the write token may change."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from deeprelax.dashboard.sweeps import Sweeps


def actions(sweeps: Sweeps) -> APIRouter:
    """Return the routes; the guard has checked the role and where the request comes from."""
    router = APIRouter()

    @router.post("/sweeps/{name}/stop")
    def stop(name: str) -> JSONResponse:
        sweeps.database.request_stop(name)
        return JSONResponse({"said": "All drivers end when their running trials have; nothing new begins."})

    @router.post("/sweeps/{name}/trials/{number}/fail")
    def fail(name: str, number: int) -> JSONResponse:
        sweeps.database.fail(name, number, "marked as failed on the dashboard")
        return JSONResponse({"said": f"Trial {number} has failed."})

    return router
