"""`prefloop train --dry-run`: load everything, print the plan, and prove that learning can happen."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
from attrs import evolve

from prefloop.config import Config
from prefloop.errors import UserError
from prefloop.loop import Loop
from prefloop.model.weight_sharing import arrays
from prefloop.runs.preparation import prepare
from prefloop.scoring.scorer import lay_out
from prefloop.types import Pair, PreferenceBatch, Verdict

_UPDATES = 2


def check(config: Config, echo: Callable[[str], object]) -> None:
    """Try the loop's pieces on one micro-batch and throw the result away. Nothing is written.

    The pairs are sampled for real; their labels are made up, so that a person is not asked. Raises
    `UserError` where a trainable tensor gets no gradient, or the reference moves with the policy.
    """
    prepared = prepare(config).with_components(people=False)
    for title, text in prepared.plan.lines():
        echo(f"{title:<8} {text}")
    loop = prepared.loop
    pairs = _different_pairs(loop)
    echo(f"sampled  {2 * len(pairs)} completions, {_tokens(pairs)} tokens")
    if getattr(config.judge, "interactive", False):
        echo("judge    a person, who is not asked now")
    else:
        echo(f"judge    {', '.join(_describe(v) for v in loop.judge.judge(pairs))}")
    _prove_learning(loop, pairs, echo)
    echo("Nothing was written. Everything is ready to train.")


def _different_pairs(loop: Loop) -> list[Pair]:
    """One micro-batch of pairs; two equal completions teach nothing, so they are left out."""
    prompts = [loop.prompts[i] for i in loop.order.indices(0, loop.micro_batch)]
    for attempt in range(8):
        progress = evolve(loop.progress(1), seed=loop.progress(1).seed + 2 * attempt)
        pairs = loop.sampler.sample(loop.policy, prompts, progress)
        if different := [p for p in pairs if p.first.tokens != p.second.tokens]:
            return different
    raise UserError(
        "sampler: both completions of every prompt come out equal, so there is nothing to prefer. "
        "Raise sampler.temperature."
    )


def _prove_learning(loop: Loop, pairs: list[Pair], echo: Callable[[str], object]) -> None:
    """Two throw-away updates: an adapter starts with one factor at zero, which blocks the other once."""
    batch = PreferenceBatch.from_verdicts(pairs, [Verdict(0.9)] * len(pairs))
    before = _reference_logprobs(loop, batch)
    untouched = set(loop.policy.trainable())
    for number in range(_UPDATES):
        gradient, _ = loop.gradient(batch, loop.progress(number + 1), sum(batch.weight))
        untouched -= {name for name, g in arrays(gradient).items() if bool(mx.any(g != 0))}
        loop.optimizer.update(loop.policy.model, gradient)
        mx.eval(loop.policy.model.trainable_parameters())
    if untouched:
        raise UserError(
            f"{len(untouched)} trainable tensors get no gradient, '{min(untouched)}' for one. "
            "Check adapter.keys and adapter.layers."
        )
    if loop.needs and not mx.array_equal(before, _reference_logprobs(loop, batch)):
        raise UserError("the reference moved while the policy was trained; please report this as a bug.")
    echo(f"learning a gradient reaches each of {len(loop.policy.trainable())} tensors; the reference stays")


def _reference_logprobs(loop: Loop, batch: PreferenceBatch) -> mx.array:
    result = loop.policy.reference_scorer.logprobs(lay_out(batch.prompts, batch.chosen))
    mx.eval(result)
    return result


def _tokens(pairs: list[Pair]) -> int:
    return sum(len(c.tokens) for p in pairs for c in (p.first, p.second))


def _describe(verdict: Verdict) -> str:
    if verdict.status == "error":
        return f"error ({verdict.reason})"
    return verdict.status if verdict.status != "ok" else f"{verdict.probability:.2f}"
