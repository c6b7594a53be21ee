"""What training may cost a language model: distance from the start, plain English, simple facts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from benchmarks.harness.internals import Scorer, lay_out
from scripts.embedded.facts import TOPICS, Fact

from prefloop import Completion, Policy, Prompt

AT_ONCE = 16
"""Prompts whose texts are scored together."""
FACTS_ASKED = slice(None, None, 2)
PROSE = (
    "The ferry left a little after seven. Most of the passengers were on their way to work, and they "
    "stood by the windows with their collars turned up, reading or looking at the grey water. A woman "
    "had brought two crates of apples from the market on the other side. She sat down on one of them "
    "and talked to the boy who sold the tickets. He had grown up on the island, he said, and he had "
    "never learned to swim, because his mother thought that people who can swim take risks. Halfway "
    "across, the wind dropped. The engine became slow and quiet, and one could hear the bell of the "
    "church in the village. Nobody had rung it on a weekday since the war. The captain came out of his "
    "cabin, took off his cap and listened. Then he told the boy to fetch the long rope, and asked "
    "whether anyone on board knew how to tie a knot that would hold a horse."
)
"""Plain English that no training has in it."""


def nats_from_start(policy: Policy, answers: Sequence[tuple[Prompt, Completion]]) -> float:
    """The KL divergence of the policy from its reference, in nats an answer, over answers of the policy."""
    prompts, completions = zip(*answers, strict=True)
    both = policy.scorer, policy.reference_scorer
    ours, theirs = (_log_likelihoods(of, prompts, completions) for of in both)
    return fmean(a - b for a, b in zip(ours, theirs, strict=True))


def perplexity(policy: Policy) -> float:
    """Of a page of plain English, without a chat template."""
    first, *rest = policy.tokenizer.encode(PROSE)
    text = Completion(tuple(rest), PROSE, stopped=False)
    (found,) = _log_likelihoods(policy.scorer, [Prompt((first,), "")], [text])
    return math.exp(-found / len(rest))


def facts_known(policy: Policy) -> float:
    """The share of simple facts whose sentence is likelier than the same one with another answer."""
    stated = [
        (fact.questions[0], fact.sentence, other.answer.join(fact.sentence.rsplit(fact.answer, 1)))
        for topic in TOPICS
        for fact, other in _neighbours(topic.facts())
    ][FACTS_ASKED]
    prompts = [policy.encode(question) for question, *_ in stated]
    right, wrong = (
        _log_likelihoods(policy.scorer, prompts, [_said(policy, row[i]) for row in stated]) for i in (1, 2)
    )
    return fmean(a > b for a, b in zip(right, wrong, strict=True))


def _neighbours(facts: Sequence[Fact]) -> list[tuple[Fact, Fact]]:
    """Each fact with the next of its topic, the last with the first, where their answers differ."""
    return [(a, b) for a, b in zip(facts, [*facts[1:], facts[0]], strict=True) if a.answer != b.answer]


def _said(policy: Policy, text: str) -> Completion:
    ids = policy.tokenizer.encode(text, add_special_tokens=False)
    return Completion(tuple(ids), text, stopped=False)


def _log_likelihoods(
    scorer: Scorer, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> list[float]:
    """The log-probability of each completion after its prompt, in nats."""
    scorer.model.whole.eval()
    found: list[float] = []
    for i in range(0, len(prompts), AT_ONCE):
        part = slice(i, i + AT_ONCE)
        rows = scorer.logprobs(lay_out(prompts[part], completions[part]))
        found += np.array(rows.sum(-1)).tolist()
    return found
