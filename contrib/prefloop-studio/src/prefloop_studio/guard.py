"""Who may ask a server what: its own pages, and those who know the token.

A web page that somebody else serves can send requests to this machine too. It cannot know the token, does not
come from our origin, and where it points a name of its own at this machine, ``Host`` tells.
"""

from __future__ import annotations

import os
import secrets
from hmac import compare_digest
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-prefloop-token"
MAX_BODY = 8 * 2**20
"""Bytes of a request that are read."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def token_of(folder: Path) -> str:
    """The token of the runs in `folder`: made once, readable by its owner only.

    It stays the same when the server starts again, so that a page that is open goes on working.
    """
    file = folder / "token"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if found := file.read_text(encoding="ascii", errors="ignore").strip():
            return found
        file.unlink()
        return token_of(folder)
    token = secrets.token_urlsafe(24)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(token)
    return token


def hosts_of(host: str, port: int) -> frozenset[str]:
    """What a browser may write into ``Host`` for a server that listens on `host`."""
    names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
    return frozenset(f"{name}:{port}" for name in names)


@frozen
class Guard:
    """An ASGI application that lets to another one only what it should see.

    The token stands in a header of its own or is a bearer token. It is asked for below the path `closed`.
    """

    app: ASGIApp
    token: str = field(repr=False)
    hosts: Collection[str]
    closed: str = "/api/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # there are no websockets here
        if refusal := self._refusal(scope):
            status, text = refusal
            await JSONResponse({"error": text}, status, HEADERS)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason for which a request is refused."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self.hosts:
            return 421, "this server does not go by that name"
        if headers.get("origin") not in (None, f"http://{host}"):
            return 403, "another page may not ask this server"
        if headers.get("sec-fetch-site") not in (None, "same-origin", "none"):
            return 403, "another page may not ask this server"
        if not scope["path"].startswith(self.closed):
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = headers.get(TOKEN_HEADER) or (bearer if scheme.lower() == "bearer" else "")
        if not compare_digest(given.encode(), self.token.encode()):
            return 401, "the token is missing or wrong: it is in the file .studio/token of the folder of runs"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or int(length[:12]) > MAX_BODY:
            return 413, f"a request may be at most {MAX_BODY // 2**20} MB"
        return None
