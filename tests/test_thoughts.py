"""Thinking models: the judge reads the answer, the loss counts what it is told to, and nothing is lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from attrs import evolve, field, frozen
from mlx.utils import tree_flatten

from prefloop import (
    Completion,
    Loop,
    Pair,
    Policy,
    PreferenceBatch,
    Progress,
    Prompt,
    Sampling,
    Scores,
    Verdict,
)
from prefloop.config import AdapterConfig, TrainingConfig
from prefloop.runs.records import completion_from_json, completion_to_json
from prefloop.sampling.stops import Stops
from prefloop.sampling.thoughts import thought_length, with_answer_read
from prefloop.scoring.scorer import lay_out_batch, reference_scores, score
from support.plain_scoring import batch, error, moved_policy
from support.small_runs import lines
from support.thinking_models import OPENS, build_thinking
from support.tiny_models import ModelFolder
from support.tiny_tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"), chat_template=OPENS)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_thinking(tmp_path_factory.mktemp("thinking") / "model")


def ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))


OPENED = "<|im_start|>assistant\n<think>\n"


@pytest.mark.parametrize(
    ("asked", "said", "thought", "answer"),
    [
        (OPENED, "hm, a cow</think>\n\nmoo<|im_end|>", "hm, a cow</think>", "moo"),
        (OPENED, "</think>moo<|im_end|>", "</think>", "moo"),
        (
            OPENED,
            "hm</think>a</think>b<|im_end|>",
            "hm</think>",
            "ab",
        ),  # the tag is no text of this tokenizer
        (OPENED, "hm, a cow", "hm, a cow", ""),  # cut by the limit
        (OPENED, "hm<|im_end|>", "hm<|im_end|>", ""),  # ended without an answer
        (OPENED, "hm</think>", "hm</think>", ""),
        ("assistant\n", "<think>hm</think>moo<|im_end|>", "<think>hm</think>", "moo"),
        ("assistant\n", "\n<think>\nhm</think>moo<|im_end|>", "\n<think>\nhm</think>", "moo"),
        ("assistant\n", "moo<|im_end|>", "", "moo"),
        ("assistant\n", "moo <think>hm</think> moo<|im_end|>", "", "moo hm moo"),
        ("assistant\n<think>\n\n</think>\n\n", "moo<|im_end|>", "", "moo"),
        ("user\nwhat is <think>? <|im_end|>\nassistant\n", "moo<|im_end|>", "", "moo"),
    ],
)
def test_the_answer_is_told_from_the_thought(
    tokenizer: Any, asked: str, said: str, thought: str, answer: str
) -> None:
    stops = Stops.of(tokenizer)
    tokens = ids(tokenizer, said)
    before = Completion(tokens, stops.text(tokens), stops.ends(tokens))
    found = with_answer_read(before, ids(tokenizer, asked), stops)
    assert found.text == answer
    assert found.tokens == tokens
    assert found.thought_tokens == len(ids(tokenizer, thought))
    assert found.whole == before.text == found.with_thought().text
    assert found if thought else found is before


def test_a_model_without_think_tokens_has_no_thoughts() -> None:
    tokenizer = Policy.load("embedded:policy").tokenizer
    assert not tokenizer.has_thinking
    assert thought_length(tokenizer, ids(tokenizer, "<think>\n"), ids(tokenizer, "a</think>b")) == 0


def test_a_given_answer_is_split_as_a_sampled_one(thinking: Path) -> None:
    policy = Policy.load(str(thinking))
    prompt = policy.encode("What does a cow say?", thinking=True)
    with_thought = policy.completion("<think>\nhm</think>\n\nmoo", prompt=prompt)
    assert (with_thought.thought, with_thought.text) == ("<think>\nhm</think>\n\n", "moo")
    answer = policy.tokenizer.decode(list(with_thought.tokens[with_thought.thought_tokens : -1]))
    assert answer.strip() == "moo"
    without = policy.completion("moo", prompt=prompt)
    assert (without.thought, without.text) == ("", "moo")
    assert 0 < without.thought_tokens < len(without.tokens)  # the template's thought is closed before it
    cut = policy.completion("<think>\nhm</think>\n\nmoo", prompt=prompt, max_tokens=2)
    assert cut.thought_tokens == 2


# What counts


def thoughtful(pairs: PreferenceBatch) -> PreferenceBatch:
    """Of each completion about the first half is its thought; the last rejected one is nothing else."""

    def thinking(completions: Sequence[Completion], whole: bool) -> tuple[Completion, ...]:
        counts = [
            len(c.tokens) if whole and c is completions[-1] else len(c.tokens) // 2 for c in completions
        ]
        return tuple(evolve(c, thought_tokens=n) for c, n in zip(completions, counts, strict=True))

    return evolve(pairs, chosen=thinking(pairs.chosen, False), rejected=thinking(pairs.rejected, True))


@pytest.mark.parametrize("family", ["qwen3", pytest.param("mamba2", marks=pytest.mark.slow)])
def test_a_masked_thought_counts_nothing_against_float64(model_folder: ModelFolder, family: str) -> None:
    """Log-probabilities of the answers alone, from logits of each row by itself; the thought is read."""
    policy = moved_policy(str(model_folder(family)), AdapterConfig())
    pairs = thoughtful(batch())
    rows = lay_out_batch(pairs, mask_thoughts=True)
    reference = reference_scores(policy.reference_scorer, rows, {"reference", "kl"})
    scores = score(policy.scorer, rows, pairs, reference, {"reference", "kl"})

    def told(model: Any, prompt: Prompt, completion: Completion) -> np.ndarray[Any, Any]:
        row = mx.array([[*prompt.tokens, *completion.tokens][:-1]])
        logits = np.array(model(row)[0].astype(mx.float32)).astype(np.float64)
        return (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))[len(prompt.tokens) - 1 :]

    def wanted(completions: Sequence[Completion]) -> tuple[list[float], list[float], list[float], list[int]]:
        ours, theirs, kls, counts = [], [], [], []
        for prompt, said in zip(pairs.prompts, completions, strict=True):
            start = 0 if said.thought_tokens == len(said.tokens) else said.thought_tokens
            p, q = (told(m, prompt, said) for m in (policy.model, policy.reference))
            places = range(start, len(said.tokens))
            ours.append(sum(p[t, said.tokens[t]] for t in places))
            theirs.append(sum(q[t, said.tokens[t]] for t in places))
            kls.append(sum(float((np.exp(p[t]) * (p[t] - q[t])).sum()) for t in places))
            counts.append(len(places))
        return ours, theirs, kls, counts

    for completions, found in (
        (
            pairs.chosen,
            (scores.policy_chosen, scores.reference_chosen, scores.kl_chosen, scores.chosen_tokens),
        ),
        (
            pairs.rejected,
            (scores.policy_rejected, scores.reference_rejected, scores.kl_rejected, scores.rejected_tokens),
        ),
    ):
        for values, expected in zip(found, wanted(completions), strict=True):
            np.testing.assert_allclose(np.array(values), expected, rtol=1e-5, atol=1e-4)


def test_the_gradient_of_a_masked_thought_is_that_of_the_answers(model_folder: ModelFolder) -> None:
    policy = moved_policy(str(model_folder("qwen3")), AdapterConfig())
    pairs = thoughtful(batch())

    def fast() -> mx.array:
        scores = score(policy.scorer, lay_out_batch(pairs, mask_thoughts=True), pairs, None, set())
        return (mx.arange(1, 4) * scores.policy_chosen - scores.policy_rejected).sum()

    def plain() -> mx.array:
        total = mx.array(0.0)
        for k, (prompt, *both) in enumerate(zip(pairs.prompts, pairs.chosen, pairs.rejected, strict=True)):
            for sign, said in zip((k + 1.0, -1.0), both, strict=True):
                start = 0 if said.thought_tokens == len(said.tokens) else said.thought_tokens
                logits = policy.model(mx.array([[*prompt.tokens, *said.tokens][:-1]]))[
                    0, len(prompt.tokens) - 1 :
                ]
                logprobs = nn.log_softmax(logits)[mx.arange(len(said.tokens)), mx.array(said.tokens)]
                total += sign * logprobs[start:].sum()
        return total

    found, expected = (dict(tree_flatten(nn.value_and_grad(policy.model, f)()[1])) for f in (fast, plain))
    assert error(found, expected) < 1e-4


def test_unmasked_thoughts_change_nothing(model_folder: ModelFolder) -> None:
    pairs = batch()
    before, after = (lay_out_batch(p) for p in (pairs, thoughtful(pairs)))
    for name in ("targets", "positions", "mask"):
        assert mx.array_equal(getattr(before, name), getattr(after, name))


# What judges read


@frozen
class Listens:
    """Remembers what it reads; the shorter text wins."""

    heard: list[Pair] = field(factory=list)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        self.heard.extend(pairs)
        return [Verdict(0.9 if len(p.first.text) <= len(p.second.text) else 0.1) for p in pairs]


@frozen
class Thinks:
    """Completions with a thought, each of the same tokens."""

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        one = policy.completion("<think>\nhm</think>\n\nmoo", prompt=prompts[0])
        two = policy.completion("<think>\nwell, well</think>\n\nquack", prompt=prompts[0])
        return [Pair(prompt, one, two) for prompt in prompts]


@frozen
class Counts:
    """A loss that remembers how many tokens of the chosen completions it was given."""

    counted: list[list[float]] = field(factory=list)

    def __call__(self, scores: Scores) -> mx.array:
        self.counted.append(scores.chosen_tokens.tolist())  # type: ignore[arg-type]
        return scores.policy_rejected - scores.policy_chosen


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("show", [False, True])
def test_the_judge_reads_the_answer_and_the_thought_only_where_it_is_shown(
    thinking: Path, show: bool, mask: bool
) -> None:
    policy, judge = Policy.load(str(thinking)), Listens()
    prompts = [policy.encode(f"Animal {i}?", thinking=True) for i in range(2)]
    training, loss = TrainingConfig(batch_size=2, iters=1, thought="mask" if mask else "learn"), Counts()
    loop = Loop(
        policy, prompts, judge=judge, sampler=Thinks(), loss=loss, training=training, show_thoughts=show
    )
    step = loop.step()
    texts = {(pair.first.text, pair.second.text) for pair in judge.heard}
    thoughts = ("<think>\nhm</think>\n\n", "<think>\nwell, well</think>\n\n") if show else ("", "")
    assert texts == {(thoughts[0] + "moo", thoughts[1] + "quack")}
    assert {pair.first.whole for pair in step.pairs} == {"<think>\nhm</think>\n\nmoo"}
    first = step.pairs[0].first
    assert 0 < first.thought_tokens < len(first.tokens)
    assert loss.counted == [[len(first.tokens) - (first.thought_tokens if mask else 0)] * 2]


def test_a_completion_is_the_same_once_written_and_read() -> None:
    said = Completion((1, 2, 3), "moo", True, "policy", "hm</think>", 2)
    assert completion_from_json(json.loads(json.dumps(completion_to_json(said))), "first") == said
    assert completion_to_json(Completion((1,), "moo")).keys() == {"text", "tokens", "stopped", "source"}


def test_sampling_keeps_every_token(thinking: Path) -> None:
    policy = Policy.load(str(thinking))
    prompts = [policy.encode("What does a cow say?", thinking=True)] * 8
    stops = Stops.of(policy.tokenizer)
    said = policy.generate(prompts, Sampling(temperature=1.0, top_p=1.0, max_tokens=40), seed=1)
    assert any(one.text for one in said)
    for one in said:
        assert one.whole == stops.text(one.tokens)
        closes = [i + 1 for i, token in enumerate(one.tokens) if token == policy.tokenizer.think_end_id]
        assert one.thought_tokens == (closes or [len(one.tokens)])[0]


# As a user sees it

SETTINGS = """
model: {path: MODEL}
prompts: {path: embedded:prompts, limit: 12, thinking: true}
judge: {use: rule, prefer: [a], length: longer}
sampler: {max_completion_length: 40, temperature: 1.0, top_p: 1.0}
adapter: {rank: 2}
training: {batch_size: 8, iters: 1, learning_rate: 1e-3, thought: mask}
evaluation: {held_out: 2}
output: {path: out, report: false}
"""


def prefloop(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefloop", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_the_dry_run_shows_a_thought_what_counts_and_what_is_read(thinking: Path, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(SETTINGS.replace("MODEL", str(thinking)))
    done = prefloop("train", "my.yaml", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"thought  \d+ tokens, the loss leaves them out, the judge does not read it: ", done.stdout
    )
    assert re.search(r"answer   \d+ tokens, the loss counts them, the judge reads it: ", done.stdout)
    changed = ("--set", "training.thought=learn", "--set", "judging.thought=show")
    done = prefloop("train", "my.yaml", "--dry-run", *changed, folder=tmp_path)
    assert re.search(r"thought  \d+ tokens, the loss counts them, the judge reads it: ", done.stdout)
    done = prefloop(
        "train", "my.yaml", "--dry-run", "--set", "sampler.max_completion_length=1", folder=tmp_path
    )
    assert "answer   none, as the thought was cut: the judge reads an empty one" in done.stdout


def test_ledger_and_export_keep_the_whole_text(thinking: Path, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(SETTINGS.replace("MODEL", str(thinking)))
    done = prefloop("train", "my.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    stops = Stops.of(Policy.load(str(thinking)).tokenizer)
    judged = [line for line in lines(tmp_path / "out" / "judgements.jsonl") if not line.get("evaluation")]
    answers = [line[side] for line in judged for side in ("first", "second")]
    assert any(answer["thought_tokens"] < len(answer["tokens"]) for answer in answers)
    for answer in answers:
        assert answer["thought"] + answer["text"] == stops.text(answer["tokens"])
    done = prefloop("export", "pairs", "out", "--output", "pairs.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    exported = {
        row[side][0]["content"] for row in lines(tmp_path / "pairs.jsonl") for side in ("chosen", "rejected")
    }
    assert exported <= {answer["thought"] + answer["text"] for answer in answers}
    assert exported
