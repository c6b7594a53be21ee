"""What the pages do to runs: start, stop, go on with, rename, delete. Each is a command, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import asdict, frozen
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.routing import Route

from prefloop.runs.holding import ask_to_end
from prefloop_studio.answers import Answer, body_of, text_in
from prefloop_studio.signed import Signer
from prefloop_studio.starting import go_on

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from prefloop_studio.library import Library
    from prefloop_studio.queue import Queue

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""A report has its styles in it and no scripts."""


@frozen
class Acting:
    """The requests that change something, and the page of a report."""

    library: Library
    queue: Queue
    signer: Signer

    def routes(self) -> list[Route]:
        return [
            Route("/api/queue", self.waiting),
            Route("/api/queue/{id}", self.take_back, methods=["DELETE"]),
            Route("/api/runs/{run}/stop", self.stop, methods=["POST"]),
            Route("/api/runs/{run}/resume", self.resume, methods=["POST"]),
            Route("/api/runs/{run}/rename", self.rename, methods=["POST"]),
            Route("/api/runs/{run}", self.delete, methods=["DELETE"]),
            Route("/api/runs/{run}/report", self.make_report, methods=["POST"]),
            Route("/api/trash", self.trash),
            Route("/api/trash", self.empty_trash, methods=["DELETE"]),
            Route("/api/trash/{id}", self.restore, methods=["POST"]),
            Route("/report/{run}", self.report),
        ]

    async def waiting(self, _: Request) -> Response:
        """What waits for its turn, is being started, or came to nothing."""
        return Answer(await run_in_threadpool(lambda: [asdict(entry) for entry in self.queue.entries()]))

    async def take_back(self, request: Request) -> Response:
        """Let a run not start after all."""
        await run_in_threadpool(self.queue.remove, request.path_params["id"])
        return Answer({})

    async def stop(self, request: Request) -> Response:
        """Let a run end after the step it is in, with a checkpoint."""
        await run_in_threadpool(ask_to_end, self.library.path(request.path_params["run"]))
        return Answer({})

    async def resume(self, request: Request) -> Response:
        """Go on with a run, with the settings in ``set`` changed."""
        body = await body_of(request)
        overrides = body.get("set", [])
        if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
            raise HTTPException(400, "'set' must be a list of texts such as training.iters=200")
        name = request.path_params["run"]
        return Answer(asdict(await run_in_threadpool(go_on, self.library, self.queue, name, overrides)))

    async def rename(self, request: Request) -> Response:
        """Give a run the name ``name``."""
        name = text_in(await body_of(request), "name")
        await run_in_threadpool(self.library.rename, request.path_params["run"], name)
        return Answer({"run": name})

    async def delete(self, request: Request) -> Response:
        """Move a run into the trash; ``id`` brings it back."""
        return Answer({"id": await run_in_threadpool(self.library.delete, request.path_params["run"])})

    async def trash(self, _: Request) -> Response:
        return Answer(await run_in_threadpool(self.library.deleted))

    async def restore(self, request: Request) -> Response:
        return Answer({"run": await run_in_threadpool(self.library.restore, request.path_params["id"])})

    async def empty_trash(self, _: Request) -> Response:
        return Answer({"removed": await run_in_threadpool(self.library.empty_trash)})

    async def make_report(self, request: Request) -> Response:
        """Write ``report.html`` anew and say where it can be looked at."""
        from prefloop_plugins.report import FILE, write_report

        name = request.path_params["run"]
        path = self.library.path(name)
        await run_in_threadpool(write_report, [path], path / FILE)
        return Answer({"url": f"/report/{name}?key={self.signer.sign(name)}"})

    async def report(self, request: Request) -> Response:
        """A run's report. A frame sends no header, so the address itself holds what the token signs."""
        name = request.path_params["run"]
        if not self.signer.matches(name, request.query_params.get("key", "")):
            raise HTTPException(401, "this address is not the one that the page gave")
        file = self.library.path(name) / "report.html"
        if not file.is_file():
            raise HTTPException(404, "there is no report")
        text = await run_in_threadpool(file.read_text, "utf-8", "replace")
        return HTMLResponse(text, headers={"content-security-policy": REPORT_POLICY})
