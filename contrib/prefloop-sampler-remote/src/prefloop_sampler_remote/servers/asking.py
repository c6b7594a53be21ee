"""Requests to an OpenAI-compatible server. Whatever goes wrong becomes one sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
from attrs import define, field

from prefloop.text import in_a_line
from prefloop_sampler_remote.engine import EngineError
from prefloop_sampler_remote.limits import read_json

CONNECT_SECONDS = 10.0
MOST_BYTES = 64 << 20
"""No answer is longer: one completion with its log-probabilities takes some hundred kilobytes."""
SAID = 300
"""Characters of a server's own complaint that are shown."""
PAUSES = (0.1, 0.4, 1.6)
"""Seconds before a connection that broke is tried again: `mlx_lm.server` lets only five wait to be heard."""
_MAY_PASS = {408, 425, 429}


@define(eq=False)
class Asker:
    """Sends requests to one server. Several threads may ask at once."""

    where: str
    """Its address, without the ``/v1`` that paths begin with."""
    key: str = field(default="", repr=False)
    timeout: float = 600.0
    _client: httpx.Client = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = httpx.Timeout(self.timeout, connect=CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=None)
        # No proxy of the environment: a server that shares a disk is a neighbour.
        self._client = httpx.Client(
            base_url=self.where, headers=headers, timeout=timeout, limits=limits, trust_env=False
        )

    def get(self, path: str) -> Any:
        """The JSON at `path`. Raises `EngineError`."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the server answers to `body`; text where it is no JSON. Raises `EngineError`."""
        return self._ask("POST", path, body)

    def close(self) -> None:
        """Close the connections; what is under way fails."""
        self._client.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        for pause in (*PAUSES, None):
            try:
                with self._client.stream(method, path, json=body) as response:
                    status, content = response.status_code, self._read(response)
                break
            except httpx.TimeoutException:
                raise EngineError(f"did not answer within {self.timeout:g} seconds") from None
            except (
                httpx.HTTPError,
                UnicodeError,
                RuntimeError,
            ) as error:  # the latter once it is closed
                broke = isinstance(error, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError)
                if not broke or pause is None:
                    said = in_a_line(str(error)) or type(error).__name__
                    raise EngineError(f"cannot be reached: {said}") from None
                time.sleep(pause)
        if status != 200:
            refused = 400 <= status < 500 and status not in _MAY_PASS
            raise EngineError(_complaint(status, content), mistaken=refused)
        return _parsed(content)

    def _read(self, response: httpx.Response) -> bytes:
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > MOST_BYTES:
                raise EngineError(f"gives an answer of more than {MOST_BYTES >> 20} MiB", mistaken=True)
        return bytes(content)


def _parsed(content: bytes) -> Any:
    try:
        return read_json(content)
    except ValueError:
        return content.decode(errors="replace")


def _complaint(status: int, content: bytes) -> str:
    """What the server says of a refusal: OpenAI, vLLM, mlx_lm.server and Starlette write it in four ways."""
    found = _parsed(content)
    said = found
    if isinstance(found, dict):
        said = found.get("error", found.get("message", found.get("detail", "")))
        if isinstance(said, dict):
            said = said.get("message", "")
    said = in_a_line(said if isinstance(said, str) else json.dumps(said))[:SAID].rstrip(".")
    about = {
        401: "wants another key (sampler.key_file)",
        403: "refuses the key (sampler.key_file)",
        404: "does not find that",
    }
    reason = about.get(status, "refuses the request" if status < 500 else "has failed")
    return f"{reason} (HTTP {status}{': ' + said if said else ''})"
