"""Who may ask the server what."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from conftest import HOST, TOKEN
from prefloop_studio.app import application
from prefloop_studio.guard import MAX_BODY, hosts_of, token_of


def test_pages_need_no_token_and_requests_do(runs: Path) -> None:
    stranger = TestClient(application(runs, TOKEN, {HOST}), base_url=f"http://{HOST}")
    assert stranger.get("/").status_code == 200
    assert stranger.get("/pages/app.js").status_code == 200
    assert stranger.get("/api/runs").status_code == 401
    assert stranger.get("/api/runs", headers={"x-prefloop-token": "guess"}).status_code == 401
    assert stranger.post("/api/runs/first/stop").status_code == 401
    assert stranger.get("/report/first").status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1:9999"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1:8137"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_other_pages_are_refused_even_with_the_token(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/api/runs", headers=headers).status_code == status


def test_no_path_leads_out_of_the_folder(client: TestClient, runs: Path) -> None:
    outside = runs.parent / "outside"
    (outside).mkdir()
    (outside / "run.json").write_text('{"status": "finished", "summary": {}}')
    (runs / "link").symlink_to(outside)
    for name in ("%2e%2e", "..%2foutside", "%2e%2e%2foutside", "..%5coutside", ".studio", "link", "%00"):
        for ending in ("", "/series", "/log", "/evaluations", "/judgements"):
            answer = client.get(f"/api/runs/{name}{ending}")
            assert answer.status_code in (401, 404), (name, ending, answer.text)
    for path in ("/pages/../guard.py", "/pages/%2e%2e/guard.py", "/charts/../__init__.py", "/charts/plot.py"):
        assert client.get(path).status_code == 404, path


def test_every_answer_has_the_headers_that_keep_a_page_safe(client: TestClient) -> None:
    for path in ("/", "/api/runs", "/nothing", "/pages/style.css"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_a_request_that_is_too_long_is_refused(client: TestClient) -> None:
    body = b'{"text": "' + b"x" * MAX_BODY + b'"}'
    assert client.post("/api/drafts/read", content=body).status_code == 413
    chunks = (body[i : i + 2**16] for i in range(0, len(body), 2**16))  # without a length
    assert client.post("/api/drafts/read", content=chunks).status_code == 413


def test_the_token_is_the_owners_alone_and_stays(tmp_path: Path) -> None:
    token = token_of(tmp_path / "own")
    assert len(token) >= 32
    assert token_of(tmp_path / "own") == token
    assert stat.S_IMODE((tmp_path / "own" / "token").stat().st_mode) == 0o600


def test_a_server_on_another_address_goes_by_that_name_too() -> None:
    assert "192.168.1.5:80" in hosts_of("192.168.1.5", 80)
    assert "[::1]:80" in hosts_of("::1", 80)
    assert "evil.example:80" not in hosts_of("127.0.0.1", 80)


def test_a_thousand_odd_requests_are_answered_without_a_fault(client: TestClient) -> None:
    client = TestClient(client.app, base_url=f"http://{HOST}", headers={"x-prefloop-token": TOKEN})
    chance = random.Random(0)
    of_run = ["", "series", "judgements", "log", "evaluations", "checks", "labels", "labels/next", "picks"]
    acts = ["resume", "rename", "stop", "talk"]
    runs = [f"/api/runs/first/{end}".rstrip("/") for end in of_run + acts]
    others = [
        "runs",
        "drafts/read",
        "drafts/edit",
        "queue",
        "queue/1",
        "trash",
        "trash/a~1",
        "labels",
        "preview",
    ]
    paths = [
        *runs,
        *(f"/api/{end}" for end in others),
        "/api/judge",
        "/report/first",
        "/",
        "/pages/x",
        "/charts/x",
    ]
    values = [None, 0, -1, 1e308, True, "", "x", "\ud83d", "../x", "\x00", [], [[]], {"a": {}}, ["a"], "a: ["]
    keys = [
        "text",
        "path",
        "value",
        "who",
        "id",
        "choice",
        "config",
        "name",
        "set",
        "messages",
        "source",
        "skip",
    ]
    keys += ["run", "first", "second", "pairs", "step", "much", "again"]
    names = ["nope", "..", "%00", "%ff", "a" * 300, "first%20", "*"]
    seen: dict[int, int] = {}
    for _ in range(1000):
        method = chance.choice(["GET", "POST", "DELETE", "PUT", "HEAD"])
        path = chance.choice(paths)
        if method == "POST" and path in ("/api/runs", "/api/runs/first/resume", "/api/judge"):
            continue  # which would train and judge
        if chance.random() < 0.3:
            path = path.replace("first", chance.choice(names))
        key = chance.choice(["cursor", "points", "names", "last", "path"])
        query = {key: chance.choice(["-1", "x", "9" * 30, "", "٣", "loss,loss"])}
        body = {key: chance.choice(values) for key in chance.sample(keys, chance.randrange(6))}
        content = chance.choice(
            [_json(body), b"", b"[]", b"\xff\xfe", b"{" * 5000, b'{"a": 1e999}', _json(body)[:-1]]
        )
        answer = client.request(method, path, params=query, content=content)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (method, path, query, content[:200], answer.text[:300])
    assert seen.keys() >= {200, 400, 404}, seen


def _json(body: dict[str, object]) -> bytes:
    return json.dumps(body).encode()
