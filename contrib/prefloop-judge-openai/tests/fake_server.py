"""An OpenAI-compatible server on this machine whose every reply a test decides."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from typing import Any

from attrs import field, frozen

from prefloop import Completion, Pair, Prompt


@frozen
class Request:
    """What came in."""

    number: int
    """From 1, in the order of arrival."""
    path: str
    authorization: str
    body: Mapping[str, Any]

    @property
    def question(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def quoted(self) -> list[str]:
        """Prompt and both answers as a careful reader finds them: between lines of the first fence."""
        lines = self.question.split("\n")
        fence = lines[lines.index("Prompt:") + 1]
        places = [i for i, line in enumerate(lines) if line == fence]
        assert len(places) == 6, "a quoted text closed its fence"
        return ["\n".join(lines[places[i] + 1 : places[i + 1]]) for i in (0, 2, 4)]


@frozen
class Response:
    """What goes out. `drop` closes the connection in the middle of the body."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    delay: float = 0.0
    drop: bool = False


Script = Callable[[Request], Response]


def completion(
    text: str | None = "A",
    top: Sequence[Mapping[str, Any]] | None = None,
    *,
    tokens: int | None = 100,
    **more: Any,
) -> Response:
    """A chat completion; `top` are the likeliest first tokens."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text, **more}}
    choice["finish_reason"] = "stop"
    if top is not None:
        choice["logprobs"] = {"content": [{"token": text, "logprob": 0.0, "top_logprobs": list(top)}]}
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return Response(json.dumps({"id": "1", "choices": [choice], **usage}).encode())


def likely(**probability: float) -> list[dict[str, Any]]:
    """``likely(A=0.7, B=0.2)`` as a server lists it."""
    return [{"token": token, "logprob": log(p)} for token, p in probability.items()]


def failure(status: int, message: str, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps({"error": {"message": message}}).encode(), status, named)


def good_first(request: Request) -> bool:
    """The rule that the server's model has learnt: an answer that starts with "good" is better."""
    return request.quoted[1].startswith("good")


def says_the_better(request: Request) -> Response:
    return completion("A" if good_first(request) else "B")


def knows_the_better(request: Request) -> Response:
    a, b = (0.6, 0.2) if good_first(request) else (0.2, 0.6)
    return completion("A" if a > b else "B", likely(A=a, B=b, Well=0.1))


def pair(prompt: str, first: str, second: str) -> Pair:
    return Pair(Prompt((), prompt), Completion((), first), Completion((), second))


def pairs(count: int) -> list[Pair]:
    """Different pairs whose first answer is the better one, but for every third."""
    made = [(f"good {i}", f"bad {i}") for i in range(count)]
    return [pair(f"prompt {i}", *(texts[::-1] if i % 3 == 2 else texts)) for i, texts in enumerate(made)]


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # a full queue drops connections, and they come back a second later


class FakeServer:
    """Serves `script` on a free port of the loopback address and keeps what it was asked."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        """Stop listening; whoever connects from now on is refused."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _receive(self, path: str, authorization: str, body: bytes) -> Response:
        with self._lock:
            request = Request(len(self.requests) + 1, path, authorization, json.loads(body))
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            response = self.script(request)
            time.sleep(response.delay)
            return response
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                response = server._receive(self.path, self.headers.get("Authorization", ""), body)
                self.send_response(response.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(response.body)))
                for name, value in response.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                sent = response.body[: len(response.body) // 2] if response.drop else response.body
                self.wfile.write(sent)
                self.close_connection = response.drop

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the client went away, as it may
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
