"""`prefloop train` with this judge: labels come from the server, and no file of the run holds the key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Request, Response, completion, failure, likely

import prefloop

SECRET = "sk-proj-0123456789abcdefABCDEF"


def larger(first: str, second: str) -> bool:
    """Whether the first is longer, or as long and later in the alphabet: different texts never tie."""
    return (len(first), first) > (len(second), second)


def prefers_the_longer(request: Request) -> Response:
    """Every seventh question is answered with an error that repeats the key."""
    if request.number % 7 == 0:
        return failure(400, f"who is {request.authorization}?")
    _, first, second = request.quoted
    a = 0.8 if larger(first, second) else 0.2
    return completion("A" if a > 0.5 else "B", likely(A=a, B=1 - a))


def config(url: str, folder: Path, **judge: Any) -> dict[str, Any]:
    return {
        "model": "embedded:policy",
        "prompts": "embedded:prompts",
        "judge": {"use": "openai", "model": "m", "base_url": url, "backoff": 0.01} | judge,
        "evaluation": {"held_out": 8},
        "sampler": {
            "max_completion_length": 12,
            "temperature": 5.0,
            "top_p": 1.0,
        },  # no two answers are equal
        "training": {"batch_size": 8, "iters": 2},
        "output": {"path": str(folder / "run")},
    }


def manifest(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / "run.json").read_text())
    return read


def judgements(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "judgements.jsonl").read_text().splitlines()]


def test_two_steps_from_the_command_line(serve: Any, tmp_path: Path) -> None:
    server, run = serve(prefers_the_longer), tmp_path / "run"
    (tmp_path / "config.yaml").write_text(json.dumps(config(server.url, tmp_path)))  # JSON is YAML
    command = [sys.executable, "-m", "prefloop", "train", str(tmp_path / "config.yaml")]
    environment = os.environ | {"OPENAI_API_KEY": SECRET, "HF_HUB_OFFLINE": "1", "OPENAI_LOG": "debug"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert manifest(run)["status"] == "finished"

    judged = judgements(run)
    assert len(judged) >= 16
    for row in (row for row in judged if row["status"] == "ok"):
        preferred = larger(row["first"]["text"], row["second"]["text"])
        assert row["probability"] == pytest.approx(0.8 if preferred else 0.2)
    reasons = {row["reason"] for row in judged if row["status"] == "error"}
    assert reasons == {"the server answered 400: 'who is Bearer [key]?'"}

    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert {request.authorization for request in server.requests} == {f"Bearer {SECRET}"}
    assert any(b"OPENAI_API_KEY" in text for text in files)
    assert not any(SECRET[:6].encode() in text for text in [*files, done.stdout, done.stderr])


def test_a_spent_budget_stops_the_run_cleanly(serve: Any, tmp_path: Path) -> None:
    server = serve(prefers_the_longer)
    run = prefloop.train(prefloop.load_config(config(server.url, tmp_path, max_requests=24)))
    assert run.status == "stopped"
    assert manifest(run.path)["reason"] == (
        "the judge's budget is spent: all 24 requests of 'max_requests' are made"
    )
    assert len(server.requests) == 24
    # one question beforehand; of the 23 others, two for each pair, nothing is lost but half a pair
    assert len([row for row in judgements(run.path) if row["status"] != "tie"]) >= 10
    assert (run.path / "adapters.safetensors").exists()


def test_a_failing_server_stops_the_run_where_asked_to(serve: Any, tmp_path: Path) -> None:
    def die(request: Request) -> Response:
        return prefers_the_longer(request) if request.number < 7 else failure(500, "out of memory")

    server = serve(die)
    settings = config(server.url, tmp_path, on_failure="stop", retries=0, concurrency=1)
    run = prefloop.train(prefloop.load_config(settings))
    assert run.status == "failed"
    assert manifest(run.path)["reason"] == (
        f"the judge at {server.url} failed: the server answered 500: 'out of memory'"
    )
    assert len(server.requests) == 7


def test_a_server_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    server = FakeServer(prefers_the_longer)
    server.close()
    with pytest.raises(prefloop.UserError, match=r"judge: .* cannot be asked: .* Is the server running\?"):
        prefloop.train(prefloop.load_config(config(server.url, tmp_path)))
    assert not (tmp_path / "run").exists()
