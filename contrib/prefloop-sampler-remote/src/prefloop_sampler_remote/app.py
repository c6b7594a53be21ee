"""What a worker answers, over HTTP.

    GET  /v1/worker     what it is: its protocol, model, limits, and the adapters that it holds
    PUT  /v1/policy     a safetensors file of adapters, with their version and configuration in the headers
    POST /v1/sample     rows of token ids; answered with completions, after a line break for every second

Every request needs the token. Nothing is unpickled; what is too large is refused before it is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import Any

from attrs import asdict, field, frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from prefloop.text import one_line
from prefloop_sampler_remote.holder import Holder, Work
from prefloop_sampler_remote.limits import MB, Asked, Limits, RefusedError, read_json

LOG = logging.getLogger("prefloop")
PROTOCOL = 1
BEAT = 1.0
"""Seconds between signs of life while completions are sampled."""
VERSION, CONFIG = "x-prefloop-version", "x-prefloop-adapter-config"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def application(holder: Holder, token: str, limits: Limits) -> ASGIApp:
    """The ASGI application of a worker whose model is loaded."""
    service = _Service(holder, limits)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        holder.close()

    routes = [
        Route("/v1/worker", _refusing(service.about), methods=["GET"]),
        Route("/v1/policy", _refusing(service.policy), methods=["PUT"]),
        Route("/v1/sample", _refusing(service.sample), methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: _as_json}
    return _Guard(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers), token)


@frozen
class _Guard:
    """Lets nobody in without the token."""

    app: ASGIApp
    token: str = field(repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        scheme, _, given = Request(scope).headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(given.encode(), self.token.encode()):
            refusal = {"error": "the token is missing or wrong: the worker shows its own where it starts"}
            await JSONResponse(refusal, 401, {"www-authenticate": "Bearer"})(scope, receive, send)
            return
        await self.app(scope, receive, send)


@frozen(eq=False)
class _Service:
    holder: Holder
    limits: Limits

    async def about(self, _: Request) -> Response:
        holder = self.holder
        about = {"protocol": PROTOCOL, "name": holder.source.path, "model": holder.digest}
        held = {"policy": holder.policy or None, "version": holder.version}
        return JSONResponse({**about, **held, "limits": asdict(self.limits)})

    async def policy(self, request: Request) -> Response:
        version = request.headers.get(VERSION, "")
        if not (version.isascii() and version.isdecimal() and len(version) < 18):
            raise RefusedError(400, f"the header {VERSION} takes the number of steps that were taken")
        try:
            config = dict(read_json(request.headers.get(CONFIG, "")))
        except (TypeError, ValueError):
            raise RefusedError(400, f"the header {CONFIG} takes an adapter_config.json") from None
        body = await _body(request, self.limits.adapters)
        digest = hashlib.sha256(body).hexdigest()
        await asyncio.wrap_future(self.holder.take(body, config, digest, int(version)))
        return JSONResponse({"policy": digest, "version": int(version)})

    async def sample(self, request: Request) -> Response:
        asked = Asked.read(await _body(request, self.limits.body), self.limits)
        self.holder.check(asked)
        return StreamingResponse(_alive(self.holder.sample(asked)), media_type="application/json")


def _refusing(handler: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedError as refused:
            return JSONResponse({"error": refused.text}, refused.status)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            return JSONResponse({"error": _fault(error)}, 500)

    return handle


def _fault(error: Exception) -> str:
    """A sentence for the learner about what went wrong here, such as memory that ran out."""
    LOG.error("A request failed.", exc_info=error)
    return f"the worker has a fault: {type(error).__name__}: {one_line(str(error))}"


async def _as_json(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": str(getattr(error, "detail", error))}, status)


async def _body(request: Request, limit: int) -> bytes:
    """The body. Raises `RefusedError` as soon as it is known to have more bytes than `limit`."""
    said = request.headers.get("content-length", "0")
    body = bytearray()
    if not (said.isdecimal() and int(said[:18]) > limit):
        async for part in request.stream():
            body += part
            if len(body) > limit:
                break
        else:
            return bytes(body)
    raise RefusedError(413, f"the request is too large: this worker takes {limit // MB} MB here")


async def _alive(work: Work) -> AsyncGenerator[str, None]:
    """The result as JSON, after a line break for every second; given up where nobody listens any more."""
    waited = asyncio.wrap_future(work.future)
    try:
        while not (await asyncio.wait({waited}, timeout=BEAT))[0]:
            yield "\n"
        try:
            yield json.dumps(waited.result())
        except RefusedError as refused:
            yield json.dumps({"error": refused.text, "status": refused.status})
        except Exception as error:
            yield json.dumps({"error": _fault(error), "status": 500})
    finally:
        work.give_up()
