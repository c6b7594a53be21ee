"""What an evaluation reports besides its win rate. A number that is not defined is NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, quantiles, stdev

from prefloop.model.policy import Policy
from prefloop.scoring.scorer import lay_out
from prefloop.types import Completion, Pair, Prompt, Verdict


def answers(completions: Sequence[Completion]) -> dict[str, float]:
    """Lengths in tokens, how many ended by themselves, and how varied they are."""
    lengths = [len(c.tokens) for c in completions]
    tenths = quantiles(lengths, n=10, method="inclusive") if len(lengths) > 1 else lengths * 9
    return {
        "completion_length": fmean(lengths),
        "completion_length_p10": float(tenths[0]),
        "completion_length_p90": float(tenths[-1]),
        "stop_rate": fmean(c.stopped for c in completions),
        "distinct_1": distinct(completions, 1),
        "distinct_2": distinct(completions, 2),
    }


def distinct(completions: Iterable[Completion], n: int) -> float:
    """Different n-grams over all n-grams of the completions (Li et al. 2016, arXiv 1510.03055).

    Of tokens, so that it means the same in every script; the stop token does not count.
    """
    texts = [c.tokens[:-1] if c.stopped else c.tokens for c in completions]
    grams = [text[i : i + n] for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def health(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Whether the judge answered, and whether it went by the answers or by their place.

    The last two are NaN where no pair was asked about in both orders.
    """
    outcomes = [v.status for v in verdicts]
    gaps = [v.gap for v in verdicts if v.gap is not None]
    return {
        "ties": fmean(o == "tie" for o in outcomes),
        "abstentions": fmean(o == "abstained" for o in outcomes),
        "errors": fmean(o == "error" for o in outcomes),
        "position_gap": fmean(gaps) if gaps else math.nan,
        "first_place": _first_place(pairs, verdicts),
    }


def _first_place(pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> float:
    """Share of single readings for the answer shown first, of pairs of different answers; no ties."""
    told = zip(pairs, verdicts, strict=True)
    readings = [v.orders for p, v in told if v.orders and p.first.text != p.second.text]
    # In the second reading, the first completion was shown second.
    chose_first = [p > 0.5 for p, _ in readings if p != 0.5] + [p < 0.5 for _, p in readings if p != 0.5]
    return fmean(chose_first) if chose_first else math.nan


def divergence(
    policy: Policy, prompts: Sequence[Prompt], completions: Sequence[Completion], batch_size: int
) -> dict[str, float]:
    """KL(policy, reference) per completion in nats, estimated from completions of the policy.

    The mean of ``log pi(y) - log ref(y)`` over the completions, each a sum over its tokens, and the standard
    error of that mean. Unbiased where they were sampled at temperature 1 without truncation.
    """
    ratios: list[float] = []
    for start in range(0, len(prompts), batch_size):
        part = slice(start, start + batch_size)
        ratios += _log_ratios(policy, prompts[part], completions[part])
    error = stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else math.nan
    return {"kl": fmean(ratios), "kl_se": error}


def _log_ratios(
    policy: Policy, prompts: Sequence[Prompt], completions: Sequence[Completion]
) -> Sequence[float]:
    policy.model.eval()
    rows = lay_out(prompts, completions)
    ours, theirs = policy.scorer.logprobs(rows), policy.reference_scorer.logprobs(rows)
    ratios: list[float] = (ours - theirs).sum(-1).tolist()  # type: ignore[assignment]
    return ratios


def accuracy(prompts: Sequence[Prompt], completions: Sequence[Completion], column: str) -> float:
    """Share of completions that contain the text in a column of their prompt's row, whatever its case."""
    answers = [str(prompt.fields[column]) for prompt in prompts]
    return fmean(a.casefold() in c.text.casefold() for a, c in zip(answers, completions, strict=True))
