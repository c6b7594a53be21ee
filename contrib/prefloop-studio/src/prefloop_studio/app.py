"""The Studio's application: its requests, its pages, and who may see them."""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from prefloop import UserError
from prefloop_studio.acting import Acting
from prefloop_studio.answers import http_error, user_error
from prefloop_studio.arena import Arena
from prefloop_studio.guard import Guard
from prefloop_studio.labelling import Labelling
from prefloop_studio.library import Library
from prefloop_studio.preparing import Preparing
from prefloop_studio.queue import Queue
from prefloop_studio.series import ColumnCache
from prefloop_studio.signed import Signer
from prefloop_studio.trying import Trying
from prefloop_studio.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

PAGES = Path(str(files("prefloop_studio") / "pages"))


def application(folder: Path, token: str, hosts: Collection[str]) -> ASGIApp:
    """The Studio for the runs in `folder`, for those who know `token` and ask by one of the names `hosts`."""
    library = Library(folder)
    queue = Queue(folder)
    routes = [
        *Watching(library, ColumnCache()).routes(),
        *Preparing(library, queue).routes(),
        *Labelling(library).routes(),
        *Arena(library).routes(),
        *Trying(library).routes(),
        *Acting(library, queue, Signer(token)).routes(),
        Route("/", _index),
        Route("/charts/{file}", _chart_library),
        Mount("/pages", StaticFiles(directory=PAGES)),
    ]
    handlers = {UserError: user_error, HTTPException: http_error}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, hosts)


async def _index(_: Request) -> Response:
    return FileResponse(PAGES / "index.html")


async def _chart_library(request: Request) -> Response:
    """uPlot, from the package that brings it; its Python is not imported."""
    name = request.path_params["file"]
    if name not in ("uPlot.iife.js", "uPlot.min.css"):
        raise HTTPException(404, "there is no such file")
    return FileResponse(_uplot() / name)


def _uplot() -> Path:
    found = importlib.util.find_spec("uplot")
    if found is None or not found.submodule_search_locations:
        raise HTTPException(500, "the package uplot-python is missing: pip install uplot-python")
    return Path(next(iter(found.submodule_search_locations))) / "static"
