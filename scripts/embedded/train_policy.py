"""Train the embedded policy: a small language model that knows the facts, in mixed styles."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn

from facts import Fact, is_right, split_questions, styled_answer
from model import Size, build, pad, sample, train
from tokenizer import prompt_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = Size(hidden=64, layers=3, intermediate=192, heads=2, kv_heads=1)
STEPS = 400
BATCH = 32


def train_policy(tokenizer: Any, seed: int) -> tuple[Any, dict[str, Any]]:
    """Supervised fine-tuning from scratch on the training questions."""
    mx.random.seed(seed)
    rng = random.Random(seed)
    model, config = build(SIZE, tokenizer)
    questions, _ = split_questions()
    examples = [(prompt_ids(tokenizer, question), fact.sentence) for question, fact in questions]
    order: list[tuple[list[int], str]] = []

    def batch() -> tuple[mx.array, mx.array]:
        nonlocal order
        while len(order) < BATCH:
            order += rng.sample(examples, len(examples))
        drawn, order = order[:BATCH], order[BATCH:]
        return _batch(rng, tokenizer, drawn)

    train(model, _loss, batch, steps=STEPS)
    return model, config


def _batch(
    rng: random.Random, tokenizer: Any, examples: Sequence[tuple[list[int], str]]
) -> tuple[mx.array, mx.array]:
    """Token ids and, for each of them, whether it is learnt: the answer and its stop token."""
    rows, learnt = [], []
    for prompt, sentence in examples:
        answer = tokenizer.encode(styled_answer(rng, sentence), add_special_tokens=False)
        answer.append(tokenizer.eos_token_id)
        rows.append(prompt + answer)
        learnt.append([0] * len(prompt) + [1] * len(answer))
    return pad(rows), pad(learnt)


def _loss(model: Any, ids: mx.array, learnt: mx.array) -> mx.array:
    losses = nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:])  # (B, T - 1)
    weights = learnt[:, 1:]
    return (losses * weights).sum() / weights.sum()


def fact_accuracy(
    model: Any, tokenizer: Any, questions: Sequence[tuple[str, Fact]], *, repeats: int = 4
) -> float:
    """Share of sampled answers, at the quick start's temperature, that hold the right word."""
    asked = [pair for pair in questions for _ in range(repeats)]
    prompts = [prompt_ids(tokenizer, question) for question, _ in asked]
    completions = sample(model, prompts, tokenizer.eos_token_id, temperature=0.8)
    texts = map(tokenizer.decode, completions)
    right = [is_right(text, fact.answer) for text, (_, fact) in zip(texts, asked, strict=True)]
    return sum(right) / len(right)
