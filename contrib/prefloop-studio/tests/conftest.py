"""A folder with a small run in it, really trained, and a client that knows the token."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import browser_program, launched
from starlette.testclient import TestClient

from prefloop import load_config, train
from prefloop_studio.app import application

TOKEN = "a-token-for-tests"
HOST = "127.0.0.1:8137"
SETTINGS = {
    "model": "embedded:policy",
    "prompts": {"path": "embedded:prompts", "limit": 40},
    "judge": {"use": "rule", "length": "shorter"},
    "sampler": {"max_completion_length": 8},
    "training": {"batch_size": 4, "iters": 3, "save_every": 1},
    "evaluation": {"held_out": 2},
    "output": {"report": False},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "runs"
    train(load_config(SETTINGS, [f"output.path={folder / 'first'}"]))
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A folder of runs of the test's own, with the run ``first`` in it."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def client(runs: Path) -> TestClient:
    """Who knows the token and asks by the right name."""
    app = application(runs, TOKEN, {HOST})
    return TestClient(app, base_url=f"http://{HOST}", headers={"x-prefloop-token": TOKEN})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
    if browser_program() is None:
        pytest.skip("no Chromium or Chrome was found; PREFLOOP_BROWSER can name one")
    with launched() as browser:
        yield browser


def wait_for(what: Callable[[], object], seconds: float = 60) -> Any:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not come")
