"""Against mlx_lm.server itself, serving the embedded judge, beside the `llm` judge on the same model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import pair

import prefloop
from prefloop import Pair, component
from prefloop_judge_openai.judge import OpenAiJudge

pytestmark = pytest.mark.slow

EMBEDDED = Path(prefloop.__file__).parent / "embedded"
RUBRIC = "Prefer the warmer, friendlier answer."


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(EMBEDDED / "judge")]
    log = (tmp_path_factory.mktemp("server") / "log.txt").open("w")
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=log,
        stderr=log,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "mlx_lm.server ended"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("mlx_lm.server does not answer")


@pytest.fixture(scope="module")
def given() -> list[Pair]:
    """Warm and blunt answers to held-out prompts, the warm one first in every other pair."""
    rows = [json.loads(line) for line in (EMBEDDED / "held_out.jsonl").read_text().splitlines()[:24]]
    made = []
    for i, row in enumerate(rows):
        answers = f"Great question! It is {row['answer']}. Happy to help!", f"{row['answer']}."
        made.append(pair(row["prompt"], *(answers if i % 2 else answers[::-1])))
    return made


def test_agrees_with_the_llm_judge(url: str, given: list[Pair]) -> None:
    judge = OpenAiJudge("default_model", base_url=url, system=RUBRIC, read="logprobs", api_key_env=None)
    judge.prepare()
    found = judge.judge(given)
    same = component("judge", "llm")(model="embedded:judge", system=RUBRIC).judge(given)
    assert [v.status for v in found] == [v.status for v in same]
    assert [v.prefers_first for v in found] == [v.prefers_first for v in same]
    assert [v.probability for v in found] == pytest.approx([v.probability for v in same], abs=0.02)
    assert sum(v.prefers_first == bool(i % 2) for i, v in enumerate(found)) > 0.9 * len(given)
    judge.close()


def test_the_written_reply_agrees_with_the_log_probabilities(url: str, given: list[Pair]) -> None:
    options = {"base_url": url, "system": RUBRIC, "orders": "fixed", "api_key_env": None}
    by_words, by_likelihood = (
        OpenAiJudge("default_model", read=how, **options).judge(given)  # type: ignore[arg-type]
        for how in ("reply", "logprobs")
    )
    agreeing = sum(a.prefers_first == b.prefers_first for a, b in zip(by_words, by_likelihood, strict=True))
    assert {v.status for v in by_words} == {"ok"}
    assert agreeing == len(given)
