"""Fixtures: workers in processes of their own on loopback, each with the embedded model, and their token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define

os.environ["HF_HUB_OFFLINE"] = "1"


@define(eq=False)
class Process:
    """A worker that runs, and where."""

    url: str
    running: subprocess.Popen[str]


Start = Callable[..., Process]


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text("a token of the tests\n".replace(" ", "-"))
    return file


def start_worker(token_file: Path, port: int = 0, model: str = "embedded:policy") -> Process:
    """A worker that answers."""
    options = ["--model", model, "--port", str(port), "--token-file", str(token_file)]
    running = subprocess.Popen(
        [sys.executable, "-m", "prefloop", "worker", *options], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout
    for line in running.stdout:
        if line.startswith("worker"):
            return Process(line.split()[1], running)
    raise AssertionError("the worker did not start")


@pytest.fixture
def start(token_file: Path) -> Iterator[Start]:
    """``start()``: another worker."""
    started: list[Process] = []

    def begin(port: int = 0, model: str = "embedded:policy") -> Process:
        started.append(start_worker(token_file, port, model))
        return started[-1]

    yield begin
    for process in started:
        process.running.kill()
        process.running.wait()


@pytest.fixture(scope="session")
def worker(token_file: Path) -> Iterator[Process]:
    """One for all tests that leave it as it is."""
    process = start_worker(token_file)
    yield process
    process.running.kill()
    process.running.wait()
