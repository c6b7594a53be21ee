"""The requests of the train page: the form, a draft and what is wrong with it, its plan, and the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Route

from prefloop_studio import drafts, sources
from prefloop_studio.answers import Answer, body_of, text_in
from prefloop_studio.form import form
from prefloop_studio.processes import run_command
from prefloop_studio.starting import free_name, start

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from prefloop_studio.library import Library
    from prefloop_studio.queue import Queue

PLAN_SECONDS = 600
"""After so long a dry run is given up."""


@frozen
class Preparing:
    """Everything before a run starts."""

    library: Library
    queue: Queue

    def routes(self) -> list[Route]:
        return [
            Route("/api/form", self.form),
            Route("/api/sources", self.sources),
            Route("/api/preview", self.preview),
            Route("/api/drafts/read", self.read, methods=["POST"]),
            Route("/api/drafts/edit", self.edit, methods=["POST"]),
            Route("/api/drafts/plan", self.plan, methods=["POST"]),
            Route("/api/runs", self.start, methods=["POST"]),
        ]

    async def form(self, _: Request) -> Response:
        """Every section, component and option, for a page to be made of."""
        return Answer(await run_in_threadpool(form))

    async def sources(self, _: Request) -> Response:
        """Models and data that are on this machine, and what memory it has."""
        return Answer(await run_in_threadpool(_sources))

    async def preview(self, request: Request) -> Response:
        """Columns and first rows of the data ``path``, of its configuration ``name`` and ``split``."""
        asked = request.query_params
        name, split = (asked.get(key, "").strip() for key in ("name", "split"))
        choice = (asked.get("path", ""), name or None, split or "train")
        return Answer(await run_in_threadpool(sources.preview, *choice))

    async def read(self, request: Request) -> Response:
        """What the draft ``text`` says, with every default, or what is wrong with it."""
        return Answer(await run_in_threadpool(drafts.read, text_in(await body_of(request), "text")))

    async def edit(self, request: Request) -> Response:
        """The draft ``text`` with ``value`` at the key path ``path``, or with nothing there."""
        body = await body_of(request)
        path = body.get("path")
        if not isinstance(path, list) or not path or not all(isinstance(key, str) for key in path):
            raise HTTPException(400, "'path' must be a list of texts")
        return Answer(await run_in_threadpool(_edit, text_in(body, "text"), path, body))

    async def plan(self, request: Request) -> Response:
        """What `prefloop train --dry-run` says of the draft ``text``."""
        return Answer(await run_in_threadpool(_plan, text_in(await body_of(request), "text")))

    async def start(self, request: Request) -> Response:
        """Let a run of the configuration ``config``, called ``name``, start as soon as nothing else runs."""
        body = await body_of(request)
        name = body.get("name") or None
        if name is not None and not isinstance(name, str):
            raise HTTPException(400, "'name' must be a text")
        return Answer(await run_in_threadpool(self._start, text_in(body, "config"), name))

    def _start(self, text: str, name: str | None) -> dict[str, Any]:
        config = drafts.resolved(text)
        name = name or free_name(self.library, self.queue, config)
        return asdict(start(self.library, self.queue, text, name))


def _sources() -> dict[str, Any]:
    return {"models": sources.models(), "data": sources.data_sets(), "machine": sources.machine()}


def _edit(text: str, path: list[str], body: dict[str, Any]) -> dict[str, Any]:
    edited = drafts.edit(text, path, body.get("value"), remove="value" not in body)
    return {"text": edited, **drafts.read(edited)}


def _plan(text: str) -> dict[str, Any]:
    """A dry run is a process of its own, so that a large model is gone when it ends."""
    with drafts.as_file(text) as file:
        done = run_command(["train", str(file), "--dry-run"], PLAN_SECONDS, "the dry run")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    said = done.stderr.replace(str(file), "the configuration").strip()
    return {"ready": done.returncode == 0, "lines": lines, "said": said, "machine": sources.machine()}
