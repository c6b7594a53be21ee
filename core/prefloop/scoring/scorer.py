"""Log-probabilities of completions under the policy and the reference.

The tokens that were sampled are scored: their ids come straight from the sampler. Only completion tokens
count, the stop token among them. The prompt is computed once for the completions that share it
(`shared_hidden`), and only positions that predict a completion's token go through the output head
(`token_terms`).

Shapes: ``B`` pairs, ``N = 2 B`` rows (first the chosen, then the rejected), ``T`` tokens in the longest
completion, ``M`` completion tokens in all, ``H`` the hidden size, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import nullcontext
from functools import cached_property

import mlx.core as mx
import mlx.nn as nn
from attrs import evolve, frozen

from prefloop.cpu import lanes
from prefloop.cpu.kernels import suits_numpy
from prefloop.model.mlx_lm_internals import GraphCache, graph_caches, is_checkpointed
from prefloop.model.split import SplitModel, evaluation_mode, inference_attention, padded
from prefloop.scoring.token_terms import Hidden, logprobs, token_terms, trained_modules
from prefloop.types import Completion, PreferenceBatch, Prompt, Scores, TokenScores

Ids = Sequence[int]


@frozen(eq=False)
class Rows:
    """Completions, and where their tokens lie in a table ``[N, T]``."""

    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    """The first of each prompt, then the second of each, and so on."""
    targets: mx.array
    """``[M]`` int32, the completions' tokens, row by row."""
    positions: mx.array
    """``[M]`` int32, where they lie in the flattened table."""
    mask: mx.array
    """``[N, T]`` float32, 1 on completion tokens."""

    def table(self, values: mx.array) -> mx.array:
        """``[M]`` values as ``[N, T]``, zero where there is no token."""
        blank = mx.zeros(self.mask.size, dtype=values.dtype)
        return blank.at[self.positions].add(values).reshape(self.mask.shape)


def lay_out(
    prompts: Sequence[Prompt], completions: Sequence[Completion], *, mask_thoughts: bool = False
) -> Rows:
    """Lay out completions, one or several for each prompt, in the order of `Rows`.

    With `mask_thoughts` only the tokens of answers count; the thoughts before them are read and not scored.
    """
    width = max(len(c.tokens) for c in completions)
    counted = [range(first_counted(c) if mask_thoughts else 0, len(c.tokens)) for c in completions]
    targets = [c.tokens[t] for c, places in zip(completions, counted, strict=True) for t in places]
    positions = [row * width + t for row, places in enumerate(counted) for t in places]
    mask = [[0.0] * p.start + [1.0] * len(p) + [0.0] * (width - p.stop) for p in counted]
    ids = mx.array(targets, dtype=mx.int32), mx.array(positions, dtype=mx.int32)
    return Rows(prompts, completions, *ids, mx.array(mask))


def first_counted(completion: Completion) -> int:
    """The place of the first token that counts where thoughts do not.

    Of a completion that is nothing but its thought all count: it would have no probability otherwise, and a
    policy that is cut in its thought would never be told.
    """
    thought = completion.thought_tokens
    return thought if thought < len(completion.tokens) else 0


def lay_out_batch(batch: PreferenceBatch, *, mask_thoughts: bool = False) -> Rows:
    """Lay out the chosen completions, then the rejected ones."""
    return lay_out(batch.prompts, batch.chosen + batch.rejected, mask_thoughts=mask_thoughts)


class Scorer:
    """Scores completions under one model. Made when the model has its adapters; follows their training."""

    def __init__(self, model: nn.Module) -> None:
        self.model = SplitModel(model)

    @property
    def shares_prompts(self) -> bool:
        """Whether prompts are computed once for all their completions.

        Not under gradient checkpointing: a layer that is computed again would add to the cache again.
        """
        return self._can_share and not is_checkpointed(self.model.whole)

    @property
    def has_lanes(self) -> bool:
        """Whether scoring in lanes pays.

        A layer that is computed again forgets its lane, gradients of a trained head add up in one, and NumPy,
        which a wide head is left to, would wait for one lane after the other.
        """
        again = is_checkpointed(self.model.whole)
        return not (again or trained_modules(self.model) or self._has_wide_head)

    @cached_property
    def _has_wide_head(self) -> bool:
        states = self.model.backbone(mx.array([[0]]))[0]  # lazy: the shapes cost no pass
        vocabulary = self.model.lm_head(states).shape[-1]
        return suits_numpy(vocabulary, len(self.model.whole.layers) * states.shape[-1])

    @cached_property
    def _can_share(self) -> bool:
        """Whether caches hold keys and values, and hidden states with shared prompts are the same.

        Recurrent and hybrid models keep other state, and some attention code cannot take padded prompts.
        """
        prompts, completions = [[0, 1, 2], [1, 2]], [[3, 4], [4, 3], [1, 1], [2, 0]]
        try:
            with evaluation_mode(self.model.whole):
                found = shared_hidden(self.model, prompts, completions).astype(mx.float32)
                wanted = plain_hidden(self.model, prompts, completions).astype(mx.float32)
                return bool(mx.allclose(found, wanted, rtol=1e-2, atol=1e-2))
        except (AttributeError, TypeError, ValueError):
            return False

    def hidden(self, rows: Rows) -> Hidden:
        """Hidden states at the positions that predict the completions' tokens."""
        prompts = [prompt.tokens for prompt in rows.prompts]
        completions = [completion.tokens for completion in rows.completions]
        shared = len(completions) > len(prompts) and self.shares_prompts
        states = (shared_hidden if shared else plain_hidden)(self.model, prompts, completions)
        return Hidden(self.model, states.reshape(-1, states.shape[-1])[rows.positions])

    def logprobs(self, rows: Rows) -> mx.array:
        """Log-probability of each completion token, ``[N, T]`` float32 constants, zero where masked."""
        with inference_attention():
            return rows.table(logprobs(self.hidden(rows), rows.targets))


@frozen(eq=False)
class ReferenceScores:
    """The rows under the reference: constants, so they are computed outside the gradient."""

    logprobs: mx.array
    """``[N, T]`` float32, zero where masked."""
    hidden: Hidden | None
    """None unless a component needs the exact KL."""


def reference_scores(reference: Scorer, rows: Rows, needs: Set[str]) -> ReferenceScores | None:
    """The rows under the reference, or None where no component needs it."""
    if not needs & {"reference", "kl", "per_token"}:
        return None
    # NumPy's attention would wait for one lane while there is nothing to do in the other.
    with inference_attention() if lanes.count() == 1 else nullcontext():
        hidden = reference.hidden(rows)
        mx.eval(hidden.states)
    found = rows.table(logprobs(hidden, rows.targets))
    return ReferenceScores(found, hidden if "kl" in needs else None)


def score(
    policy: Scorer,
    rows: Rows,
    batch: PreferenceBatch,
    reference: ReferenceScores | None,
    needs: Set[str],
) -> Scores:
    """Scores of a batch laid out by `lay_out_batch`; differentiable in the policy's parameters."""
    terms = token_terms(policy.hidden(rows), rows.targets, reference.hidden if reference else None)
    ours = rows.table(terms.logprobs)
    theirs = _halves(reference.logprobs.sum(-1)) if reference else (None, None)
    tokens, probability = _halves(rows.mask.sum(-1)), mx.array(batch.probability)
    scores = Scores(*_halves(ours.sum(-1)), theirs[0], theirs[1], *tokens, probability)
    if terms.kl is not None:
        kl = _halves(rows.table(terms.kl).sum(-1))
        scores = evolve(scores, kl_chosen=kl[0], kl_rejected=kl[1])
    if reference and "per_token" in needs:
        parts = zip(_halves(ours), _halves(reference.logprobs), _halves(rows.mask), strict=True)
        per_token = [TokenScores(*part) for part in parts]
        scores = evolve(scores, chosen_per_token=per_token[0], rejected_per_token=per_token[1])
    if "reference_samples" in needs:
        drawn = _from_reference(batch.chosen), _from_reference(batch.rejected)
        scores = evolve(scores, chosen_from_reference=drawn[0], rejected_from_reference=drawn[1])
    if "completions" in needs:
        scores = evolve(scores, chosen=batch.chosen, rejected=batch.rejected)
    return scores


def _halves(rows: mx.array) -> tuple[mx.array, mx.array]:
    """The chosen rows and the rejected ones."""
    chosen, rejected = mx.split(rows, 2)
    return chosen, rejected


def _from_reference(completions: Sequence[Completion]) -> mx.array:
    return mx.array([1.0 if c.source == "reference" else 0.0 for c in completions])


def shared_hidden(model: SplitModel, prompts: Sequence[Ids], completions: Sequence[Ids]) -> mx.array:
    """Hidden states that predict the completions' tokens, ``[N, T, H]``, as `plain_hidden` gives them.

    `completions` are the first completion of each prompt, then the second of each, and so on. Entries beyond
    a completion's end are undefined. Raises `ValueError` where a layer keeps more than keys and values.
    """
    if all(len(prompt) == 1 for prompt in prompts):
        return plain_hidden(model, prompts, completions)
    caches = _read(model, [prompt[:-1] for prompt in prompts])
    times = len(completions) // len(prompts)
    last = [prompt[-1] for prompt in prompts] * times
    rows = padded([[first, *completion[:-1]] for first, completion in zip(last, completions, strict=True)])
    found = []
    for part in lanes.parted(times):
        kept = [cache.repeat(part.stop - part.start) for cache in caches]
        places = slice(part.start * len(prompts), part.stop * len(prompts))
        found.append(model.backbone(rows[places], cache=kept))
    return mx.concatenate(found)


def _read(model: SplitModel, rows: Sequence[Ids]) -> list[GraphCache]:
    """The caches of these rows. Raises `ValueError` where a layer keeps more than keys and values."""
    longest = max(map(len, rows))
    padding = [longest - len(row) for row in rows]
    tokens = mx.array([[0] * pad + list(row) for pad, row in zip(padding, rows, strict=True)])
    parts: list[list[GraphCache]] = []
    for part in lanes.parted(len(rows)):
        caches = graph_caches(model.whole, padding[part])
        model.backbone(tokens[part], cache=caches)
        for cache in caches:
            if cache.keys is None:  # of a layer that was left out: see `common_layers`
                cache.advance(longest)
        parts.append(caches)
    return [GraphCache.joined(layer) for layer in zip(*parts, strict=True)]


def plain_hidden(model: SplitModel, prompts: Sequence[Ids], completions: Sequence[Ids]) -> mx.array:
    """The same with a row for each completion that begins with its prompt, which every model can do."""
    times = len(completions) // len(prompts)
    asked = list(prompts) * times
    rows = padded([[*p, *c[:-1]] for p, c in zip(asked, completions, strict=True)])
    hidden = mx.concatenate([model.backbone(rows[part]) for part in lanes.parted(len(rows))])
    width = max(map(len, completions))
    # Position t of the output predicts token t + 1, so a completion starts at the prompt's last token.
    starts = mx.array([len(p) - 1 for p in asked])[:, None]
    positions = mx.minimum(starts + mx.arange(width)[None], hidden.shape[1] - 1)
    return mx.take_along_axis(hidden, positions[..., None], axis=1)
