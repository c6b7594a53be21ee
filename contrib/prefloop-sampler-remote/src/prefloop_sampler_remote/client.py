"""A worker of prefloop's own, as the learner's engine."""

from __future__ import annotations

import json
from typing import Any

import httpx
from attrs import define, field

from prefloop.errors import StopRun
from prefloop.text import one_line
from prefloop_sampler_remote.app import CONFIG, PROTOCOL, VERSION
from prefloop_sampler_remote.engine import Answer, EngineError, Request, Snapshot
from prefloop_sampler_remote.limits import MB, Asked, Limits, read_json

MAX_ANSWER = 256 * MB
"""Bytes of an answer that are read."""
NEEDS_NEW_ADAPTERS = 409
NEEDED = (
    ("rows", "{} completions of a request", "sampler.portion, of which each prompt has two"),
    ("prompt", "a prompt of {} tokens", "prompts.max_length"),
    ("completion", "a completion of {} tokens", "sampler.max_completion_length"),
)
"""Limits of which a run is told at its start that it exceeds them."""


class _OtherAdaptersError(EngineError):
    """The worker does not hold the adapters that it was asked to sample from."""


@define(eq=False)
class WorkerEngine:
    """The worker at `where`, which has to hold the base model with the digest `model`.

    It counts as gone after `timeout` seconds without a sign of life, which it gives every second.
    """

    where: str
    token: str = field(repr=False)
    model: str
    needs: Limits
    """What the run asks at most."""
    timeout: float
    _client: httpx.Client = field(init=False)

    def __attrs_post_init__(self) -> None:
        # No proxy of the environment: a worker is a neighbour.
        headers = {"authorization": f"Bearer {self.token}"}
        self._client = httpx.Client(
            base_url=self.where, headers=headers, timeout=self.timeout, trust_env=False
        )

    def greet(self) -> None:
        about = self._asked("GET", "/v1/worker", timeout=min(self.timeout, 5.0))
        if about.get("protocol") != PROTOCOL:
            raise EngineError(
                f"speaks protocol {about.get('protocol')!r}, not {PROTOCOL}: install the same "
                "prefloop-sampler-remote on both machines",
                mistaken=True,
            )
        if about.get("model") != self.model:
            raise EngineError(
                f"holds another base model, '{about.get('name')}': start it with the model that the run "
                "trains, quantized alike",
                mistaken=True,
            )
        offered: Any = about.get("limits")
        for name, takes, key in NEEDED:
            most, needed = offered.get(name) if isinstance(offered, dict) else None, getattr(self.needs, name)
            if type(most) is not int:
                raise EngineError(f"does not say the limit of its {name}", mistaken=True)
            if needed > most:
                raise EngineError(
                    f"takes {takes.format(f'{most:,}')} at most, and this run has {needed:,}: lower {key}",
                    mistaken=True,
                )

    def load(self, snapshot: Snapshot) -> None:
        headers = {VERSION: str(snapshot.version), CONFIG: json.dumps(snapshot.config)}
        held = self._asked("PUT", "/v1/policy", content=snapshot.adapters, headers=headers)
        if held.get("policy") != snapshot.digest:
            raise EngineError("the adapters did not arrive as they were sent")

    def sample(self, request: Request, snapshot: Snapshot) -> list[Answer]:
        asked = Asked(self.model, snapshot.digest, snapshot.version, request).to_json()
        try:
            found = self._asked("POST", "/v1/sample", json=asked)
        except _OtherAdaptersError:  # it was started again, or another run uses it, too
            self.load(snapshot)
            found = self._asked("POST", "/v1/sample", json=asked)
        if "stop" in found:
            raise StopRun(str(found["stop"]), failed=True, resumable=False)
        if found.get("policy") != snapshot.digest:
            raise EngineError("it sampled from other adapters than it was asked to")
        try:
            return [_answer(one, found["version"]) for one in found["completions"]]
        except (KeyError, TypeError) as error:
            raise EngineError(f"its answer cannot be read: {error!r}") from error

    def close(self) -> None:
        self._client.close()

    def _asked(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The JSON object that it answers. Raises `EngineError`."""
        try:
            with self._client.stream(method, path, **more) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        raise EngineError("its answer is too large")
        except httpx.TimeoutException:
            raise EngineError("gives no sign of life") from None
        except (httpx.HTTPError, UnicodeError, RuntimeError) as error:  # of a host's name; of a closed client
            raise EngineError(f"cannot be reached: {one_line(str(error)) or type(error).__name__}") from error
        return self._read(response.status_code, bytes(body))

    def _read(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            found = read_json(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EngineError(f"is no prefloop worker: it answers {status} without JSON", mistaken=True)
        if "error" in found and type(found.get("status")) is int:  # said after the answer was begun
            status = found["status"]
        if status == 401:
            raise EngineError("does not take the token in sampler.token_file", mistaken=True)
        if "error" in found or status >= 400:
            said = one_line(str(found.get("error", "")))
            if status == NEEDS_NEW_ADAPTERS:
                raise _OtherAdaptersError(f"refuses ({status}): {said}")
            raise EngineError(f"refuses ({status}): {said}", mistaken=True)
        return found


def _answer(found: Any, version: Any) -> Answer:
    tokens = found["tokens"]
    if type(version) is not int or not isinstance(tokens, list):
        raise TypeError("a version is a whole number, and tokens are a list")
    return Answer(tuple(tokens), bool(found["stopped"]), version, str(found["text"]))
