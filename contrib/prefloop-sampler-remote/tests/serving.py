"""Server processes for the tests, and what a policy answers by itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import mlx.core as mx

from prefloop import Policy, Sampling
from prefloop.model.weight_sharing import arrays
from prefloop_sampler_remote.engine import Tokens

QUESTIONS = (
    "What does a cow say?",
    "What is the capital of France?",
    "What colour is grass?",
    "How many legs has a spider?",
)


@contextmanager
def server(command: Sequence[str], log: Path, health: str) -> Iterator[str]:
    """Run a server, whose command has ``{port}`` in it, until it answers at `health`; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = f"http://127.0.0.1:{port}"
    with log.open("w") as stream:
        started = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command)],
            stdout=stream,
            stderr=stream,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    try:
        _wait_for(where + health, started, log)
        yield where
    finally:
        started.kill()
        started.wait(timeout=30)


def _wait_for(address: str, started: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert started.poll() is None, log.read_text()[-2000:]
        try:
            httpx.get(address)
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def change(policy: Policy, size: float = 0.1) -> None:
    """Give the policy adapters that change what it says."""
    key, changed = mx.random.key(5), {}
    for name, value in arrays(policy.model.trainable_parameters()).items():
        key, own = mx.random.split(key)
        changed[name] = value + size * mx.random.normal(value.shape, key=own)
    policy.model.load_weights(list(changed.items()), strict=False)
    mx.eval(policy.model.parameters())


def asked(policy: Policy) -> tuple[Tokens, ...]:
    """The prompts of `QUESTIONS`."""
    return tuple(policy.encode(question).tokens for question in QUESTIONS)


def own_answers(policy: Policy, sampling: Sampling) -> list[Tokens]:
    """What the policy samples for them in this process."""
    prompts = [policy.encode(question) for question in QUESTIONS]
    return [completion.tokens for completion in policy.generate(prompts, sampling, seed=3)]


def save_float32(policy: Policy, folder: Path, *, noise: float = 0.0) -> Path:
    """The policy's model as a folder in float32, in which a server computes as the policy does here.

    With `noise` it is another model of the same shape.
    """
    if noise:
        key, changed = mx.random.key(1), {}
        for name, value in arrays(policy.model.parameters()).items():
            key, own = mx.random.split(key)
            changed[name] = value + noise * mx.random.normal(value.shape, key=own)
        policy.model.load_weights(list(changed.items()))
    policy.save_model(folder)
    return folder
