"""What the embedded models can do, measured on questions that neither was trained on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facts import FACTS
from model import count_parameters
from train_judge import RUBRIC, Agreement, Answers, Comparison, agreement, sample_answers
from train_policy import fact_accuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from facts import Fact

SEED = 8
MIXED_PAIRS = 1000


@dataclass(frozen=True)
class Quality:
    policy_parameters: int
    judge_parameters: int
    training_accuracy: float
    held_out_accuracy: float
    sampled: Agreement
    """On pairs that the policy samples."""
    mixed: Agreement
    """On sampled, written and damaged answers, paired at random."""


def measure(
    policy: Any,
    judge: Any,
    tokenizer: Any,
    training: Sequence[tuple[str, Fact]],
    held_out: Sequence[tuple[str, Fact]],
) -> Quality:
    rng = random.Random(SEED)
    sampled = sample_answers(policy, tokenizer, held_out, repeats=6)
    pairs = [Comparison(asked, *rng.sample(texts, 2)) for asked, texts in sampled.items() for _ in range(3)]
    answers = Answers(rng, held_out, sampled)
    return Quality(
        policy_parameters=count_parameters(policy),
        judge_parameters=count_parameters(judge),
        training_accuracy=fact_accuracy(policy, tokenizer, training),
        held_out_accuracy=fact_accuracy(policy, tokenizer, held_out),
        sampled=agreement(judge, tokenizer, pairs),
        mixed=agreement(judge, tokenizer, [answers.comparison() for _ in range(MIXED_PAIRS)]),
    )


def readme(quality: Quality) -> str:
    """The page beside the models, with the measured figures."""
    return f"""\
# The quick start's models

`scripts/embedded/make_embedded.py` makes everything in this folder from text that it generates
itself, and writes this page. Nothing here comes from anywhere else.

- `policy/`: a Qwen3-type model of {quality.policy_parameters:,} parameters, trained from scratch on
  {len(FACTS)} simple facts. It answers with openings and closings that are warm, blunt or absent.
- `judge/`: its twin of {quality.judge_parameters:,} parameters, trained to answer `A` or `B` to the
  question of the `llm` judge with the rubric "{RUBRIC}" It knows
  no other rubric, and it judges style alone: a kind answer that is wrong beats a blunt one that is
  right. Of two answers of equal style it still likes one a little better.
- `prompts.jsonl`: two phrasings of each fact, to train on; `answer` is the word of a right answer.
- `held_out.jsonl`: a third phrasing of each fact, which neither model was trained on.

Both are mlx-lm model folders in float16 with one tokenizer and chat template. On a CPU cast them to
float32, which is many times faster there.

## Measured

The right word is in {quality.held_out_accuracy:.1%} of the policy's answers to held-out questions
(training questions: {quality.training_accuracy:.1%}), sampled at temperature 0.8 and top-p 0.95.

How often the judge prefers the answer that the rule in `facts.py` prefers (kinds of warm components
minus kinds of blunt ones), on held-out questions, where the rule prefers one:

| answers | pairs | first order | second order | both averaged | distance from ½ at ties |
|---|---|---|---|---|---|
{_row("sampled from the policy", quality.sampled)}
{_row("sampled, written and damaged", quality.mixed)}
"""


def _row(name: str, found: Agreement) -> str:
    shares = (found.first_order, found.second_order, found.both_orders)
    cells = " | ".join(f"{share:.1%}" for share in shares)
    return f"| {name} | {found.pairs} | {cells} | {found.tie_gap:.2f} |"
