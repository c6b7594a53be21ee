"""Runs whose judge is a function as another library documents it, as a user starts them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from support.small_runs import lines

REWARDS = '''
import asyncio


def plain(prompt, completion):
    return len(completion) / 8


def exact(completion, answer):
    return float(answer in completion)


def trl(completions, answer, **kwargs):
    """TRL's GRPOTrainer and OnlineDPOTrainer."""
    assert kwargs["prompts"][0] == kwargs["prompts"][1] and len(kwargs["completion_ids"]) == len(completions)
    return [None if "zebra" in a else float(a in c) for a, c in zip(answer, completions)]


def mlx_lm_lora(prompts: list, completions: list, answer: list, types: list | None = None) -> list[float]:
    assert types is None and len(prompts) == len(completions) == len(answer)
    return [float("!" in c) for c in completions]


async def waiting(prompt, completion):
    await asyncio.sleep(0)
    return 0.5 * ("Sure" in completion)


async def waiting_batch(completions, **kwargs):
    await asyncio.sleep(0)
    return [-0.1 * len(ids) for ids in kwargs["completion_ids"]]


async def longer(prompt, first, second):
    return None if len(first) == len(second) else len(first) > len(second)


class Pairwise:
    """TRL's BasePairwiseJudge."""

    def judge(self, prompts, completions, shuffle_order=True):
        return [-1 if len(a) == len(b) else int(len(a) < len(b)) for a, b in completions]


def chat(prompts, completions, **kwargs):
    assert prompts[0][-1]["role"] == "user" and completions[0][0]["role"] == "assistant"
    return [float(len(completion[0]["content"])) for completion in completions]
'''
FUNCTIONS = ("plain", "exact", "trl", "mlx_lm_lora", "waiting", "waiting_batch")
SETTINGS = """
model: embedded:policy
prompts: {path: PROMPTS, limit: 12}
judge: JUDGE
sampler: {max_completion_length: 8}
adapter: {rank: 2, layers: 1}
training: {batch_size: 4, iters: 2, learning_rate: 1e-3}
evaluation: {held_out: 4}
output: {path: out, report: false}
"""


def train(folder: Path, judge: str, prompts: str = "embedded:prompts") -> subprocess.CompletedProcess[str]:
    (folder / "rewards.py").write_text(REWARDS)
    (folder / "my.yaml").write_text(SETTINGS.replace("JUDGE", judge).replace("PROMPTS", prompts))
    command = [sys.executable, "-m", "prefloop", "train", "my.yaml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_a_run_with_a_reward_function_of_every_form(tmp_path: Path) -> None:
    """The verdicts in the ledger are the weighted sum, computed here from the texts beside them."""
    weights = [0.5, 1.0, 1.0, 2.0, 1.0, 0.25]
    score = ", ".join(
        f"{{function: 'rewards:{f}', weight: {w}}}" for f, w in zip(FUNCTIONS, weights, strict=True)
    )
    done = train(tmp_path, f"{{use: function, temperature: 2.0, score: [{score}]}}")
    assert done.returncode == 0, done.stderr
    answers = {row["prompt"]: row["answer"] for row in lines(Path("core/prefloop/embedded/prompts.jsonl"))}
    judged = lines(tmp_path / "out" / "judgements.jsonl")
    assert {line["step"] for line in judged if not line.get("evaluation")} == {1, 2}
    for line in judged:
        right = answers[line["prompt"][-1]["content"]]

        def total(answer: dict[str, object], right: str = right) -> float:
            text, tokens = str(answer["text"]), list(answer["tokens"])  # type: ignore[call-overload]
            parts = (
                len(text) / 8,
                right in text,
                right in text,
                "!" in text,
                0.5 * ("Sure" in text),
                -0.1 * len(tokens),
            )
            return sum(w * float(part) for w, part in zip(weights, parts, strict=True))

        difference = (total(line["first"]) - total(line["second"])) / 2.0
        assert line["probability"] == pytest.approx(1 / (1 + math.exp(-difference)), abs=1e-9)
        assert line["reason"].startswith("plain ") and line["reason"].count(";") == 5


@pytest.mark.parametrize("call", [pytest.param("longer", marks=pytest.mark.slow), "Pairwise"])
def test_a_run_whose_function_compares_two_answers(tmp_path: Path, call: str) -> None:
    done = train(tmp_path, f"{{use: function, call: 'rewards:{call}'}}")
    assert done.returncode == 0, done.stderr
    undecided = "abstained" if call == "longer" else "error"
    for line in lines(tmp_path / "out" / "judgements.jsonl"):
        more = len(line["first"]["text"]) - len(line["second"]["text"])
        assert (line["status"], line["probability"]) == (
            "ok" if more else undecided,
            (more > 0) if more else 0.5,
        )


@pytest.mark.slow
def test_a_run_on_conversations(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"What does a cow say? {i}"}]} for i in range(8)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = train(tmp_path, "{use: function, score: 'rewards:chat'}", "chats.jsonl")
    assert done.returncode == 0, done.stderr
    assert all(line["status"] in ("ok", "tie") for line in lines(tmp_path / "out" / "judgements.jsonl"))


@pytest.mark.parametrize(
    "judge",
    [
        "{use: function, score: 'rewards:exact'}",
        "{use: cascade, members: [{use: function, score: 'rewards:exact'}, {use: rule, length: longer}]}",
    ],
)
def test_a_column_that_the_prompts_lack_is_found_before_anything_is_written(
    tmp_path: Path, judge: str
) -> None:
    rows = [{"prompt": f"What does a cow say? {i}", "answers": "moo"} for i in range(8)]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = train(tmp_path, judge, "my.jsonl")
    assert done.returncode == 2
    assert (
        "score: exact(completion, answer) wants 'answer', and the prompts have no such column" in done.stderr
    )
    assert "Did you mean 'answers'?" in done.stderr
    assert ("judge: members.0: " in done.stderr) == ("cascade" in judge)
    assert not (tmp_path / "out").exists()
