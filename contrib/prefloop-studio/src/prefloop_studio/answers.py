"""Requests and answers as JSON, with errors in the words of the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from prefloop import UserError
from prefloop.text import without_nan
from prefloop_studio.guard import MAX_BODY

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


class Answer(JSONResponse):
    """JSON, in which a number that is not finite is null."""

    def render(self, content: Any) -> bytes:
        return encode(content).encode()


def encode(content: Any) -> str:
    """`content` as JSON in ASCII; a number that is not finite is null."""
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(without_nan(content), allow_nan=False, separators=(",", ":"))


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request. Raises `HTTPException` where there is none."""
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_BODY:
            raise HTTPException(413, f"a request may be at most {MAX_BODY // 2**20} MB")
    try:
        found = json.loads(received or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the request is not JSON") from error
    if not isinstance(found, dict):
        raise HTTPException(400, "the request is not a JSON object")
    return found


def text_in(body: dict[str, Any], name: str) -> str:
    """The text called `name` in a request's body. Raises `HTTPException` where there is none."""
    found = body.get(name)
    if not isinstance(found, str):
        raise HTTPException(400, f"'{name}' must be a text")
    return found


def number_in(request: Request, name: str, default: int, most: int = 2**53) -> int:
    """The whole number called `name` in a request's query, at most `most`. Raises `HTTPException`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 16):
        raise HTTPException(400, f"'{name}' must be a whole number")
    return min(int(text), most)


def user_error(_: Request, error: Exception) -> Response:
    """What is wrong with what was given, one sentence for each problem."""
    assert isinstance(error, UserError)
    return Answer({"error": str(error), "problems": list(error.problems)}, 400)


def http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Answer({"error": error.detail}, error.status_code)
