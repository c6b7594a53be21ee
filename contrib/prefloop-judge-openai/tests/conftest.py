"""Fixtures: a server whose replies a test decides, and judges that ask it. Nothing leaves the machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_server import FakeServer, Script

from prefloop_judge_openai.judge import OpenAiJudge

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL", "OPENAI_LOG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], FakeServer]]:
    started: list[FakeServer] = []

    def start(script: Script) -> FakeServer:
        started.append(FakeServer(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def judge_at() -> Iterator[Callable[..., OpenAiJudge]]:
    """``judge_at(server, **options)``: a judge that hardly waits between tries."""
    made: list[OpenAiJudge] = []

    def make(server: FakeServer, **options: Any) -> OpenAiJudge:
        quick: dict[str, Any] = {
            "model": "m",
            "base_url": server.url,
            "backoff": 0.01,
            "retries": 2,
            "timeout": 5.0,
        }
        made.append(OpenAiJudge(**(quick | options)))
        return made[-1]

    yield make
    for judge in made:
        judge.close()
