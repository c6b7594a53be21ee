"""The plain way to score: each row alone and unpadded, through the whole model, in float32 autodiff.

It shares no code with `prefloop.scoring`, which it is there to check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from prefloop import Completion, Policy, PreferenceBatch, Prompt
from prefloop.config import AdapterConfig, ModelConfig
from prefloop.model.weight_sharing import copy_module_tree
from prefloop.scoring.scorer import lay_out_batch, reference_scores, score

NEEDS = frozenset({"reference", "kl", "per_token"})
LONG = (12, 1, 5)
"""Lengths of the prompts; the first is longer than the tiny models' windows of 8."""
COMPLETIONS = (3, 1, 11), (1, 4, 2)

Found = tuple[mx.array, mx.array, mx.array]
"""Sums of log-probabilities ``[N]``, sums of KL ``[N]``, and what per-token values add to the loss."""
Gradients = dict[str, mx.array]


def batch(lengths: tuple[int, ...] = LONG) -> PreferenceBatch:
    """Ragged pairs of random tokens."""
    draw = np.random.default_rng(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.integers(5, 260, size=count).tolist())

    prompts = tuple(Prompt(tokens(count), "") for count in lengths)
    chosen, rejected = (tuple(Completion(tokens(n), "") for n in counts) for counts in COMPLETIONS)
    return PreferenceBatch(prompts, chosen, rejected, (0.9, 0.8, 0.7), (1.0, 1.0, 1.0))


def moved_policy(folder: str, adapter: AdapterConfig, quantize: Any = "none") -> Policy:
    """A policy that has moved away from its reference, in every tensor that it trains."""
    policy = Policy.load(ModelConfig(path=folder, quantize=quantize), adapter)
    mx.random.seed(7)
    moved = {k: v + 0.02 * mx.random.normal(v.shape) for k, v in policy.trainable().items()}
    policy.model.load_weights(list(moved.items()), strict=False)
    return policy


def fast(policy: Policy, pairs: PreferenceBatch) -> tuple[Found, Gradients]:
    """What the loop computes: one batch through `prefloop.scoring`."""
    rows = lay_out_batch(pairs)
    with policy.common_layers.recorded():
        reference = reference_scores(policy.reference_scorer, rows, NEEDS)

    def found() -> Found:
        with policy.common_layers.given():
            scores = score(policy.scorer, rows, pairs, reference, NEEDS)
        halves = [scores.chosen_per_token, scores.rejected_per_token]
        squares = [((half.policy - half.reference) ** 2).sum() for half in halves if half]
        assert scores.kl_chosen is not None and scores.kl_rejected is not None
        sums = mx.concatenate([scores.policy_chosen, scores.policy_rejected])
        return sums, mx.concatenate([scores.kl_chosen, scores.kl_rejected]), sum(squares, mx.array(0.0))

    return _with_gradients(policy.model, found)


def plain(policy: Policy, pairs: PreferenceBatch) -> tuple[Found, Gradients]:
    """The same from logits of the whole model, a row at a time; quantized weights are unpacked."""
    model, reference = _unpacked(policy.model), _unpacked(policy.reference)

    def found() -> Found:
        sums, kls, squares = [], [], mx.array(0.0)
        for prompt, said in zip(pairs.prompts * 2, pairs.chosen + pairs.rejected, strict=True):
            row = mx.array([[*prompt.tokens, *said.tokens][:-1]])
            first, targets = len(prompt.tokens) - 1, mx.array(said.tokens)[:, None]
            ours, theirs = (_log_softmax(m(row)[0, first:]) for m in (model, reference))
            logprobs, constants = (mx.take_along_axis(d, targets, axis=-1) for d in (ours, theirs))
            sums.append(logprobs.sum())
            kls.append((mx.exp(ours) * (ours - mx.stop_gradient(theirs))).sum())
            squares += ((logprobs - mx.stop_gradient(constants)) ** 2).sum()
        return mx.stack(sums), mx.stack(kls), squares

    return _with_gradients(model, found)


def error(found: Mapping[str, mx.array], wanted: Mapping[str, mx.array]) -> float:
    """Length of the difference of two gradients over the length of the second."""
    assert found.keys() == wanted.keys()
    norms = [
        np.sqrt(sum(float((np.asarray(value, dtype=np.float64) ** 2).sum()) for value in tree))
        for tree in ([found[k] - wanted[k] for k in wanted], wanted.values())
    ]
    return float(norms[0] / norms[1]) if norms[1] else float(norms[0])


def _with_gradients(model: nn.Module, found: Callable[[], Found]) -> tuple[Found, Gradients]:
    """A loss in which every value has a share of its own: DPO's, an exact-KL bonus, and squares."""

    def loss() -> tuple[mx.array, Found]:
        sums, kls, squares = found()
        chosen, rejected = mx.split(sums, 2)
        weights = mx.arange(1, len(kls) + 1) / len(kls)
        dpo = -nn.log_sigmoid(0.1 * (chosen - rejected)).mean()
        return dpo + 0.1 * (weights * kls).sum() + 0.01 * squares, (sums, kls, squares)

    (_, values), gradients = nn.value_and_grad(model, loss)()
    found_gradients = dict(tree_flatten(gradients))
    mx.eval(values, found_gradients)
    return values, found_gradients


def _log_softmax(logits: mx.array) -> mx.array:
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def _unpacked(model: nn.Module) -> nn.Module:
    """The model with float32 weights in the place of quantized ones."""
    twin = copy_module_tree(model)
    layers = []
    for name, module in twin.named_modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            weight = mx.dequantize(
                module.weight, module.scales, module.biases, module.group_size, module.bits, module.mode
            )
            plain = (
                nn.Linear(1, 1, bias=False) if isinstance(module, nn.QuantizedLinear) else nn.Embedding(1, 1)
            )
            plain.weight = weight.astype(mx.float32)
            if "bias" in module:
                plain.bias = module.bias
            plain.freeze()
            layers.append((name, plain))
    twin.update_modules(tree_unflatten(layers))
    return twin
