"""The numbers reported for each step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean

import mlx.core as mx

from prefloop.types import SOURCE, Completion, Pair, Progress, Scores, Verdict


class Clock:
    """Seconds spent in each phase of a step: ``with clock("sampling"): …``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started


OF_SOURCES = ("pairs", "loss", "chosen_reward", "rejected_reward", "reward_accuracy")
"""What is summed for each source of a mixture by itself."""


def batch_sums(
    scores: Scores,
    losses: mx.array,
    bonus: mx.array,
    weights: mx.array,
    sources: Mapping[str, mx.array] | None = None,
) -> dict[str, mx.array]:
    """Weighted sums over the pairs of a micro-batch; `step_metrics` divides them by their weight.

    `sources` has for each source of a mixture 1.0 where a pair is of it, else 0.0.
    """
    per_pair = {
        "pairs": mx.ones_like(weights),
        "loss": losses - bonus,
        "preference_loss": losses,
        "bonus": bonus,
        "chosen_logprob": scores.policy_chosen,
        "rejected_logprob": scores.policy_rejected,
        "chosen_length": scores.chosen_tokens,
        "rejected_length": scores.rejected_tokens,
    }
    # Without a reference, rewards are those of log-probabilities alone.
    chosen, rejected = scores.policy_chosen, scores.policy_rejected
    if scores.reference_chosen is not None and scores.reference_rejected is not None:
        chosen, rejected = chosen - scores.reference_chosen, rejected - scores.reference_rejected
        per_pair |= {"log_ratio_chosen": chosen, "log_ratio_rejected": rejected}
    if scores.kl_chosen is not None and scores.kl_rejected is not None:
        per_pair |= {"kl_chosen": scores.kl_chosen, "kl_rejected": scores.kl_rejected}
    per_pair |= {"chosen_reward": chosen, "rejected_reward": rejected}  # not scaled yet
    per_pair["reward_accuracy"] = (chosen > rejected).astype(mx.float32)
    for source, mask in (sources or {}).items():
        per_pair |= {f"{SOURCE}{source}/{name}": mask * per_pair[name] for name in OF_SOURCES}
    return {name: mx.stop_gradient((weights * values).sum()) for name, values in per_pair.items()}


def step_metrics(
    progress: Progress,
    pairs: Sequence[Pair],
    verdicts: Sequence[Verdict],
    sums: Mapping[str, float],
    seconds: Mapping[str, float],
    *,
    gradient_norm: float,
    learning_rate: float,
    reward_scale: float,
    with_bonus: bool,
    ages: Sequence[int],
    of_sampler: Mapping[str, float],
    peak_memory: int,
) -> dict[str, float]:
    """Every metric of a step, by the name it has in ``metrics.jsonl``; `docs/runs.md` explains them."""
    total = sum(seconds.values())
    tokens = sum(len(c.tokens) for p in pairs for c in (p.first, p.second))
    return {
        "epoch": progress.epoch,
        **_means(sums, reward_scale, with_bonus),
        **_divergence(pairs, sums),
        **_sampled(pairs),
        **verdict_metrics(verdicts),
        **asked_metrics(verdicts),
        **source_metrics(pairs, verdicts, sums, reward_scale),
        **({"age": fmean(ages), "age_max": float(max(ages))} if ages else {}),
        **of_sampler,
        "learning_rate": learning_rate,
        "grad_norm": gradient_norm,
        "skipped": float(not math.isfinite(gradient_norm)),
        "tokens_per_second": tokens / total if total else 0.0,
        "seconds": total,
        **{f"seconds_{phase}": value for phase, value in seconds.items()},
        "peak_memory_gb": peak_memory / 1e9,
    }


def number(scalar: mx.array) -> float:
    """The value of a real scalar array."""
    value: float = scalar.item()  # type: ignore[assignment]
    return value


def _means(sums: Mapping[str, float], reward_scale: float, with_bonus: bool) -> dict[str, float]:
    """Means over the labelled pairs. A reward is DPO's implicit one: `reward_scale` times the log-ratio."""
    if not sums:
        return {"labelled": 0.0}
    pairs = sums["pairs"]
    of_all = {name: value for name, value in sums.items() if not name.startswith(SOURCE)}
    means = {name: value / pairs for name, value in of_all.items() if name != "pairs"}
    chosen, rejected = reward_scale * means["chosen_reward"], reward_scale * means["rejected_reward"]
    bonus = means.pop("bonus")
    if with_bonus:
        means["exploration_bonus"] = bonus
    rewards = {"chosen_reward": chosen, "rejected_reward": rejected, "margin": chosen - rejected}
    return {"labelled": pairs, **means, **rewards}


def source_metrics(
    pairs: Sequence[Pair],
    verdicts: Sequence[Verdict],
    sums: Mapping[str, float] = {},
    reward_scale: float = 1.0,
) -> dict[str, float]:
    """For each source of a mixture: pairs, the share with a label, and what the labelled ones come to."""
    found: dict[str, float] = {}
    judged = list(zip(pairs, verdicts, strict=True))
    for source in sorted({pair.prompt.source for pair in pairs} - {""}):
        own = [verdict for pair, verdict in judged if pair.prompt.source == source]
        name = f"{SOURCE}{source}/"
        found |= {f"{name}pairs": float(len(own)), f"{name}label_rate": fmean(v.status == "ok" for v in own)}
        if labelled := sums.get(f"{name}pairs"):
            mean = {key: sums[name + key] / labelled for key in OF_SOURCES}
            margin = reward_scale * (mean["chosen_reward"] - mean["rejected_reward"])
            found |= {f"{name}loss": mean["loss"], f"{name}margin": margin}
            found[f"{name}reward_accuracy"] = mean["reward_accuracy"]
    return found


def _divergence(pairs: Sequence[Pair], sums: Mapping[str, float]) -> dict[str, float]:
    """The KL divergence from the reference in nats a completion, where the policy drew both of every pair.

    The mean log-ratio of the labelled pairs' completions: unbiased at temperature 1 without truncation.
    """
    drawn = all(c.source == "policy" for pair in pairs for c in (pair.first, pair.second))
    if not drawn or "log_ratio_chosen" not in sums:
        return {}
    return {"kl": (sums["log_ratio_chosen"] + sums["log_ratio_rejected"]) / (2 * sums["pairs"])}


def _sampled(pairs: Sequence[Pair]) -> dict[str, float]:
    completions = [c for p in pairs for c in (p.first, p.second)]
    variety = distinct(completions, 2)
    return {
        "pairs": float(len(pairs)),
        "completion_length": fmean(len(c.tokens) for c in completions),
        "stop_rate": fmean(c.stopped for c in completions),
        **({} if math.isnan(variety) else {"distinct_2": variety}),
    }


def distinct(completions: Iterable[Completion], n: int) -> float:
    """Different n-grams over all n-grams of the completions (Li et al. 2016, arXiv 1510.03055).

    Of tokens, so that it means the same in every script; the stop token does not count. NaN where there are
    none.
    """
    texts = [c.tokens[:-1] if c.stopped else c.tokens for c in completions]
    grams = [text[i : i + n] for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def asked_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """How many pairs a person was asked about, and drawn audits among them; only where there were any."""
    asked = [v for v in verdicts if v.cost_a_label]
    audits = [v for v in asked if v.audit is not None]
    counts = {"asked": float(len(asked)), "audited": float(len(audits))} if asked else {}
    return counts | ({"reversed": float(sum(v.reverses for v in audits))} if audits else {})


def verdict_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Rates of the verdicts that are no label, and the mean position gap where both orders were asked."""
    metrics = {
        "ties": fmean(v.status == "tie" for v in verdicts),
        "abstentions": fmean(v.status == "abstained" for v in verdicts),
        "errors": fmean(v.status == "error" for v in verdicts),
    }
    gaps = [v.gap for v in verdicts if v.gap is not None]
    if gaps:
        metrics["position_gap"] = fmean(gaps)
    return metrics
