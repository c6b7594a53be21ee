"""Log-probabilities of completions under the policy and the reference.

What was sampled is what is scored: the token ids come straight from the sampler. Position ``t`` of a
model's output predicts token ``t + 1``, so a completion of ``C`` tokens after a prompt of ``P`` reads the
outputs ``P - 1 … P + C - 2``. Rows are padded on the right, where a causal model cannot look.

Shapes: ``N = 2 B`` rows (first the chosen, then the rejected), ``L`` tokens in the longest row, ``T`` in the
longest completion, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import mlx.core as mx
import mlx.nn as nn
from attrs import evolve, frozen

from prefloop.types import Completion, PreferenceBatch, Prompt, Scores, TokenScores


@frozen(eq=False)
class Rows:
    """Completions laid out for one forward pass."""

    tokens: mx.array
    """``[N, L]`` int32, prompt and completion."""
    positions: mx.array
    """``[N, T]`` int32, the outputs that predict the completion's tokens."""
    targets: mx.array
    """``[N, T]`` int32, the completion's tokens."""
    mask: mx.array
    """``[N, T]`` float32, 1 on completion tokens."""


@frozen(eq=False)
class ReferenceScores:
    """What the reference says of the rows; constants, so computed outside the gradient."""

    logprobs: mx.array
    """``[N, T]`` float32, zero where masked."""
    log_distribution: mx.array | None
    """``[N, T, V]`` float32, only where the exact KL was asked for."""


def lay_out(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> Rows:
    """Pad the rows to common lengths."""
    longest = max(len(p.tokens) + len(c.tokens) for p, c in zip(prompts, completions, strict=True))
    width = max(len(c.tokens) for c in completions)
    tokens, positions, targets, mask = [], [], [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        row = [*prompt.tokens, *completion.tokens]
        count = len(completion.tokens)
        blank = width - count
        tokens.append(row + [0] * (longest - len(row)))
        positions.append([len(prompt.tokens) - 1 + t for t in range(count)] + [0] * blank)
        targets.append([*completion.tokens] + [0] * blank)
        mask.append([1.0] * count + [0.0] * blank)
    return Rows(mx.array(tokens), mx.array(positions), mx.array(targets), mx.array(mask))


def lay_out_batch(batch: PreferenceBatch) -> Rows:
    """The chosen rows, then the rejected ones."""
    return lay_out(batch.prompts * 2, batch.chosen + batch.rejected)


def logits(model: nn.Module, rows: Rows) -> mx.array:
    """The model's logits at the completion's positions, ``[N, T, V]`` float32."""
    output = model(rows.tokens[:, :-1])
    return mx.take_along_axis(output, rows.positions[..., None], axis=1).astype(mx.float32)


def token_logprobs(at_positions: mx.array, rows: Rows) -> mx.array:
    """Log-probability of each completion token, ``[N, T]`` float32, zero where masked."""
    chosen = mx.take_along_axis(at_positions, rows.targets[..., None], axis=-1).squeeze(-1)
    return (chosen - mx.logsumexp(at_positions, axis=-1)) * rows.mask


def reference_scores(reference: nn.Module, rows: Rows, needs: Set[str]) -> ReferenceScores | None:
    """The reference's side of `score`, or None where no component needs it."""
    if not needs & {"reference", "kl", "per_token"}:
        return None
    at_positions = logits(reference, rows)
    distribution = None
    if "kl" in needs:
        distribution = at_positions - mx.logsumexp(at_positions, axis=-1, keepdims=True)
    scores = ReferenceScores(token_logprobs(at_positions, rows), distribution)
    mx.eval(scores.logprobs, *([] if distribution is None else [distribution]))
    return scores


def score(
    model: nn.Module,
    rows: Rows,
    batch: PreferenceBatch,
    reference: ReferenceScores | None,
    needs: Set[str],
) -> Scores:
    """Scores of a batch laid out by `lay_out_batch`; differentiable in the parameters of `model`."""
    at_positions = logits(model, rows)
    policy = token_logprobs(at_positions, rows)
    chosen, rejected = _halves(policy.sum(-1))
    chosen_tokens, rejected_tokens = _halves(rows.mask.sum(-1))
    probability = mx.array(batch.probability)
    scores = Scores(chosen, rejected, None, None, chosen_tokens, rejected_tokens, probability)
    if reference:
        theirs = _halves(reference.logprobs.sum(-1))
        scores = evolve(scores, reference_chosen=theirs[0], reference_rejected=theirs[1])
    if reference and reference.log_distribution is not None:
        kl = _halves(_kl(at_positions, reference.log_distribution, rows.mask))
        scores = evolve(scores, kl_chosen=kl[0], kl_rejected=kl[1])
    if reference and "per_token" in needs:
        parts = zip(_halves(policy), _halves(reference.logprobs), _halves(rows.mask), strict=True)
        per_token = [TokenScores(*part) for part in parts]
        scores = evolve(scores, chosen_per_token=per_token[0], rejected_per_token=per_token[1])
    if "reference_samples" in needs:
        drawn = _from_reference(batch.chosen), _from_reference(batch.rejected)
        scores = evolve(scores, chosen_from_reference=drawn[0], rejected_from_reference=drawn[1])
    return scores


def _kl(at_positions: mx.array, reference: mx.array, mask: mx.array) -> mx.array:
    """KL(policy, reference) over the vocabulary at each position, summed over the completion: ``[N]``."""
    policy = at_positions - mx.logsumexp(at_positions, axis=-1, keepdims=True)
    per_position = (mx.exp(policy) * (policy - reference)).sum(-1)
    return (per_position * mask).sum(-1)


def _halves(rows: mx.array) -> tuple[mx.array, mx.array]:
    """The chosen rows and the rejected ones."""
    chosen, rejected = mx.split(rows, 2)
    return chosen, rejected


def _from_reference(completions: Sequence[Completion]) -> mx.array:
    return mx.array([1.0 if c.source == "reference" else 0.0 for c in completions])
