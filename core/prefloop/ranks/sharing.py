"""What ranks do of a step: each samples and scores its share, and all have the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import mlx.core as mx
from attrs import evolve
from mlx.utils import tree_flatten, tree_unflatten

from prefloop.components import BaseSampler, check_pairs
from prefloop.errors import UserError
from prefloop.ranks.group import Ranks
from prefloop.ranks.wire import completion_from_wire, completion_to_wire
from prefloop.types import Completion, Pair, PreferenceBatch, Progress, Prompt

if TYPE_CHECKING:
    from prefloop.model.policy import Policy

Gradient = tuple[Any, dict[str, mx.array]]
"""A tree of arrays, or None, and the sums to report."""


def sample_together(
    ranks: Ranks, sampler: BaseSampler, policy: Policy, prompts: Sequence[Prompt], progress: Progress
) -> list[Pair]:
    """The pairs of all `prompts`, of which each rank samples its share.

    A sampler that remembers what only its own calls know samples for all on rank 0. Raises `UserError`, on
    all ranks, where one has other prompts.
    """
    if ranks.size == 1:
        return sampler.sample(policy, prompts, progress)
    shares = draws_a_share(sampler)
    share = ranks.share(len(prompts)) if shares else range(len(prompts) if ranks.first else 0)
    own: list[Pair] = []
    if share:
        with policy.shard(share.start, len(share)):
            own = sampler.sample(policy, [prompts[i] for i in share], progress)
    check_pairs(type(sampler).__name__, own, len(share))
    asked = sha256(repr([prompt.tokens for prompt in prompts]).encode()).hexdigest()[:16]
    completions = [[completion_to_wire(c) for c in (pair.first, pair.second)] for pair in own]
    said = ranks.exchange({"asked": asked, "drawn": completions})
    for rank, other in enumerate(said):
        if other["asked"] != said[0]["asked"]:
            raise UserError(
                f"rank {rank} has other prompts than rank 0 in step {progress.step}, and ranks share each "
                "step: give all the same prompts, in the same order, and the same training settings."
            )
    drawn = ((completion_from_wire(c) for c in pair) for part in said for pair in part["drawn"])
    return [Pair(prompt, *two) for prompt, two in zip(prompts, drawn, strict=True)]


def draws_a_share(sampler: BaseSampler) -> bool:
    """Whether each rank may draw its own share: what is remembered, if anything, comes from `learn` alone."""
    kind = type(sampler)
    return kind.state is BaseSampler.state or kind.learn is not BaseSampler.learn


def complete_together(
    ranks: Ranks, prompts: Sequence[Prompt], complete: Callable[[Sequence[Prompt], int], list[Completion]]
) -> list[Completion]:
    """One completion for each of `prompts`: `complete` gets a rank's share, and the place where it begins."""
    if ranks.size == 1:
        return complete(prompts, 0)
    share = ranks.share(len(prompts))
    own = complete(prompts[share.start : share.stop], share.start)
    said = ranks.exchange([completion_to_wire(completion) for completion in own])
    return [completion_from_wire(one) for part in said for one in part]


def gradient_together(
    ranks: Ranks, batch: PreferenceBatch, gradient: Callable[[PreferenceBatch, float], Gradient]
) -> Gradient:
    """The gradient and the sums of `batch`, of which each rank scores its share.

    `gradient` takes a part of the batch and the weight of the whole. All of it is added up in one flat
    buffer: a sum for each of hundreds of arrays stalls the ring of mlx.
    """
    weight = sum(batch.weight)
    if ranks.size == 1 or not len(batch):
        return gradient(batch, weight)
    own = batch.by_length().select(range(ranks.rank, len(batch), ranks.size))
    if not len(own):  # a pair without weight has the same arrays, and adds nothing
        own = evolve(batch.select([0]), weight=(0.0,))
    found, sums = gradient(own, weight)
    named = dict(tree_flatten(found))
    values = _split(ranks.summed(_flat([*named.values(), *sums.values()])), [*named.values(), *sums.values()])
    summed = dict(zip([*named, *(("sums", name) for name in sums)], values, strict=True))
    tree = tree_unflatten([(name, summed[name].astype(named[name].dtype)) for name in named])
    return tree, {name: summed["sums", name] for name in sums}


def _flat(values: Sequence[mx.array]) -> mx.array:
    return mx.concatenate([value.astype(mx.float32).reshape(-1) for value in values])


def _split(flat: mx.array, like: Sequence[mx.array]) -> list[mx.array]:
    """The parts of a flat array, with the shapes of others."""
    ends = [0]
    for value in like:
        ends.append(ends[-1] + value.size)
    return [flat[a:b].reshape(value.shape) for a, b, value in zip(ends, ends[1:], like, strict=False)]


def check_equal(ranks: Ranks, what: Mapping[str, Any]) -> None:
    """Raises `UserError`, on all ranks, where a rank has another value than rank 0 under a name."""
    said = ranks.exchange(dict(what))
    for rank, other in enumerate(said):
        for name in {**said[0], **other}:  # settings come first
            here, there = said[0].get(name), other.get(name)
            if here != there and not _close(here, there):
                raise UserError(
                    f"the ranks are to share one run, and rank {rank} has another value than rank 0 of {name}"
                    f": {there!r}, not {here!r}. Start all with the same command and the same files."
                )


def _close(a: Any, b: Any) -> bool:
    """Whether two numbers differ by rounding alone, as on two kinds of machine."""
    return isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-4 * max(abs(a), abs(b))
