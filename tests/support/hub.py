"""A stand-in for the Hugging Face Hub, as far as uploading a folder goes: it keeps what it receives."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import Factory, define


@define
class Hub:
    address: str
    made: dict[str, Any] = Factory(dict)
    """The repositories by name, as they were asked for."""
    files: dict[str, dict[str, bytes]] = Factory(dict)
    tokens: set[str] = Factory(set)
    broken: bool = False
    """Whether commits fail."""


@contextmanager
def stand_in_hub() -> Iterator[Hub]:
    """A server on this machine; ``HF_ENDPOINT`` leads `huggingface_hub` there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(404, {"error": "Repository not found"})

    def do_POST(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.tokens.add(self.headers.get("Authorization", ""))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if repo in hub.made:
                return self._answer(409, {"error": "You already created this model repo"})
            hub.made[repo] = asked
            return self._answer(200, {"url": f"{hub.address}/{repo}"})
        if self.path == "/api/validate-yaml":  # of the card's head
            return self._answer(200, {"errors": [], "warnings": []})
        repo, action = self.path.removeprefix("/api/models/").partition("/main")[0].rsplit("/", 1)
        if action == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if hub.broken:
            return self._answer(403, {"error": "Storage limit reached"})
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                hub.files.setdefault(repo, {})[entry["value"]["path"]] = content
        return self._answer(
            200,
            {"success": True, "commitOid": "0" * 40, "commitUrl": f"{hub.address}/{repo}/commit/{'0' * 40}"},
        )

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
