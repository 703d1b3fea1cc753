"""News for open pages: server-sent events, one when what a page shows has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from deeprelax.dashboard.runs import Runs
from deeprelax.dashboard.sweeps import Sweeps
from deeprelax.errors import DeepRelaxError

LOOK_S = 1.0
"""Seconds between two looks."""

ALIVE_S = 15
"""Looks without news after which a comment is sent, so that proxies keep the connection."""


def live(sweeps: Sweeps, runs: Runs) -> APIRouter:
    """Return the routes of the events."""
    router = APIRouter()

    @router.get("/events/run/{path:path}")
    async def of_run(path: str) -> StreamingResponse:
        runs.folder(path)
        return _stream(lambda: runs.fingerprint(path))

    @router.get("/events/sweep/{name}")
    async def of_sweep(name: str) -> StreamingResponse:
        await asyncio.to_thread(sweeps.fingerprint, name)
        return _stream(lambda: sweeps.fingerprint(name))

    return router


def _stream(look: Callable[[], str]) -> StreamingResponse:
    return StreamingResponse(changes(look), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def changes(look: Callable[[], str]) -> AsyncIterator[str]:
    """Yield an event whenever what ``look`` returns has changed; it is called in a thread."""
    before = await asyncio.to_thread(look)
    yield ": watching\n\n"
    quiet = 0
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            now = await asyncio.to_thread(look)
        except DeepRelaxError:  # the database is away, or the run was removed: nothing new
            continue
        quiet += 1
        if now != before:
            before, quiet = now, 0
            yield "event: changed\ndata: \n\n"
        elif quiet % ALIVE_S == 0:
            yield ": alive\n\n"
