"""Train the embedded judge: the policy's twin, taught to answer which style is warmer.

It learns the very token ids that the `llm` judge asks with (`encode_question`), on clean answers,
on answers sampled from the policy, and on the damaged ones that a policy being trained comes up
with: cut off, with repeated or misplaced phrases, without the fact, or mere babble.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from facts import (
    BLUNT_CLOSINGS,
    BLUNT_OPENINGS,
    WARM_CLOSINGS,
    WARM_OPENINGS,
    Fact,
    style_score,
    styled_answer,
)
from model import Size, build, pad, sample, train
from prefloop_plugins.judges.question import encode_question
from tokenizer import prompt_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

RUBRIC = "Prefer the warmer, friendlier answer."
LABELS = ("A", "B")

SIZE = Size(hidden=64, layers=3, intermediate=192, heads=2, kv_heads=1)
STEPS = 700
BATCH = 24
PHRASES = WARM_OPENINGS + WARM_CLOSINGS + BLUNT_OPENINGS + BLUNT_CLOSINGS


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt, in the order in which they are shown."""

    prompt: str
    first: str
    second: str

    @property
    def target(self) -> float:
        """The probability that the first is better: 1, 0, or one half where styles are equal."""
        first, second = style_score(self.first), style_score(self.second)
        return 0.5 if first == second else float(first > second)

    def swapped(self) -> Comparison:
        return Comparison(self.prompt, self.second, self.first)

    def question(self, tokenizer: Any) -> list[int]:
        return encode_question(
            tokenizer,
            rubric=RUBRIC,
            prompt=self.prompt,
            first=self.first,
            second=self.second,
            labels=LABELS,
        )


@dataclass
class Answers:
    """A source of answers to compare: sampled ones, written ones and damaged ones."""

    rng: random.Random
    questions: Sequence[tuple[str, Fact]]
    sampled: dict[str, list[str]]

    def comparison(self) -> Comparison:
        question, fact = self.rng.choice(self.questions)
        return Comparison(question, self._answer(question, fact), self._answer(question, fact))

    def _answer(self, question: str, fact: Fact) -> str:
        chance = self.rng.random()
        if chance < 0.4:
            return self.rng.choice(self.sampled[question])
        if chance < 0.6:
            return self._composed(fact.sentence)
        text = styled_answer(self.rng, fact.sentence)
        return text if chance < 0.75 else self._damaged(text)

    def _composed(self, sentence: str) -> str:
        """Any few phrases, mostly of the kinds that win, around the sentence or without it."""
        kinds = (WARM_OPENINGS, WARM_CLOSINGS) if self.rng.random() < 0.6 else (PHRASES,)
        phrases = [p for kind in kinds for p in self.rng.choices(kind, k=self.rng.randint(0, 2))]
        place = self.rng.choice((len(phrases), len(phrases) // 2, 0))
        body = [sentence] if self.rng.random() < 0.9 else []
        return " ".join([*phrases[:place], *body, *phrases[place:]])

    def _damaged(self, text: str) -> str:
        words = text.split()
        place = self.rng.randrange(len(words))
        match self.rng.choice(("cut", "repeat", "drop", "echo", "babble")):
            case "cut":
                return text[: self.rng.randrange(len(text))]
            case "repeat":
                return " ".join([*words, *words[place:]])
            case "drop":
                return " ".join(words[:place] + words[place + 1 :])
            case "echo":
                return " ".join([*words[: place + 1], *words[place:]])
            case _:  # what is left of a policy that was pushed too far
                known = [*words, *" ".join(PHRASES).split(), "!", "."]
                few = self.rng.choices(known, k=self.rng.randint(1, 3))
                return self.rng.choice((" ", "")).join(few * self.rng.randint(2, 8))


def sample_answers(
    policy: Any, tokenizer: Any, questions: Sequence[tuple[str, Fact]], *, repeats: int
) -> dict[str, list[str]]:
    """Answers that the policy samples to each question."""
    asked = [question for question, _ in questions for _ in range(repeats)]
    prompts = [prompt_ids(tokenizer, question) for question in asked]
    completions = sample(policy, prompts, tokenizer.eos_token_id, temperature=1.0, top_p=1.0)
    texts = zip(asked, map(tokenizer.decode, completions), strict=True)
    return {asked: [text for _, text in group] for asked, group in groupby(texts, lambda x: x[0])}


def train_judge(
    policy: Any, tokenizer: Any, questions: Sequence[tuple[str, Fact]], seed: int
) -> tuple[Any, dict[str, Any]]:
    """Train on both orders of every comparison, starting from the policy's weights."""
    mx.random.seed(seed)
    model, config = build(SIZE, tokenizer)
    if policy.args == model.args:
        model.update(policy.parameters())
    answers = Answers(random.Random(seed), questions, sample_answers(policy, tokenizer, questions, repeats=6))

    def batch() -> tuple[mx.array, mx.array, mx.array, mx.array]:
        drawn = [answers.comparison() for _ in range(BATCH // 2)]
        return _batch(tokenizer, [*drawn, *(one.swapped() for one in drawn)])

    train(model, _loss, batch, steps=STEPS)
    return model, config


def _batch(
    tokenizer: Any, comparisons: Sequence[Comparison]
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """Questions with a label and a stop token (B, T), the questions' lengths (B,), the labels'
    token ids (2,) and their probabilities (B, 2)."""
    labels = label_ids(tokenizer)
    questions = [comparison.question(tokenizer) for comparison in comparisons]
    targets = [[comparison.target, 1 - comparison.target] for comparison in comparisons]
    replies = [labels[target[0] < 0.5] for target in targets]
    rows = [[*ids, reply] for ids, reply in zip(questions, replies, strict=True)]
    lengths = mx.array([len(ids) for ids in questions])
    return pad(rows), lengths, mx.array([*labels, tokenizer.eos_token_id]), mx.array(targets)


def _loss(model: Any, ids: mx.array, lengths: mx.array, replies: mx.array, targets: mx.array) -> mx.array:
    """Cross-entropy of the label, then of the stop token: over the whole vocabulary, so that the
    judge writes nothing but a label."""
    hidden = model.model(ids)
    places = mx.stack([lengths - 1, lengths], axis=1)  # where label and stop token are predicted
    hidden = mx.take_along_axis(hidden, places[..., None], axis=1)  # (B, 2, hidden)
    logits: mx.array = model.model.embed_tokens.as_linear(hidden)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    label = -(targets * logprobs[:, 0, replies[:2]]).sum(axis=-1)
    stop = -logprobs[:, 1, replies[2]]
    return label.mean() + 0.1 * stop.mean()


def label_ids(tokenizer: Any) -> list[int]:
    """The single token of each label."""
    ids = [tokenizer.encode(label, add_special_tokens=False) for label in LABELS]
    assert all(len(one) == 1 for one in ids), "a label is not a single token"
    return [one[0] for one in ids]


def first_is_better(
    model: Any, tokenizer: Any, comparisons: Sequence[Comparison], *, batch: int = 64
) -> np.ndarray:
    """The judge's probability that the first answer is better, each asked in one order: (N,)."""
    first, second = label_ids(tokenizer)
    parts = []
    for start in range(0, len(comparisons), batch):
        rows = [one.question(tokenizer) for one in comparisons[start : start + batch]]
        hidden = model.model(pad(rows))
        last = hidden[mx.arange(len(rows)), mx.array([len(row) - 1 for row in rows])]
        logits = model.model.embed_tokens.as_linear(last)
        parts.append(np.array(mx.sigmoid(logits[:, first] - logits[:, second])))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Agreement:
    """How often judge and rule prefer the same answer, where the rule prefers one."""

    first_order: float
    second_order: float
    both_orders: float
    tie_gap: float
    """Mean distance from one half where the rule sees a tie, both orders averaged."""
    pairs: int


def agreement(model: Any, tokenizer: Any, comparisons: Sequence[Comparison]) -> Agreement:
    forward = first_is_better(model, tokenizer, comparisons)
    backward = 1 - first_is_better(model, tokenizer, [one.swapped() for one in comparisons])
    target = np.array([one.target for one in comparisons])
    both, decided = (forward + backward) / 2, target != 0.5

    def share(probability: np.ndarray) -> float:
        return float(((probability > 0.5) == (target > 0.5))[decided].mean())

    tie_gap = float(np.abs(both - 0.5)[~decided].mean())
    return Agreement(share(forward), share(backward), share(both), tie_gap, int(decided.sum()))
