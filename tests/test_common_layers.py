"""The layers below the trained ones are computed once for policy and reference, and nothing else changes."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from prefloop import Policy
from prefloop.config import AdapterConfig
from prefloop.evaluation.evaluator import divergence
from prefloop.model.mlx_lm_internals import checkpoint_layers
from prefloop.model.weight_sharing import view
from prefloop.scoring.scorer import lay_out_batch, reference_scores, score
from support.plain_scoring import NEEDS, batch, error, fast, moved_policy, plain
from support.tiny_models import FAMILIES, ModelFolder

LAST = AdapterConfig(rank=4, layers=1)


def called(monkeypatch: pytest.MonkeyPatch, layer: nn.Module) -> list[Any]:
    """Hears of every call of this one layer."""
    calls: list[Any] = []
    cls: Any = type(layer)
    real = cls.__call__

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self is layer:
            calls.append(args)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(cls, "__call__", call)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_leaves_out_what_is_not_trained(model_folder: ModelFolder, family: str) -> None:
    policy, pairs = moved_policy(str(model_folder(family)), LAST), batch()
    assert policy.common_layers.count == len(policy.model.layers) - 1
    found, wanted = fast(policy, pairs), plain(policy, pairs)
    for ours, expected in zip(found[0], wanted[0], strict=True):
        np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=1e-4, atol=1e-5)
    assert error(found[1], wanted[1]) < 1e-4


def test_the_policy_does_not_compute_what_the_reference_has(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, rows = moved_policy(str(model_folder("qwen3")), LAST), lay_out_batch(batch())
    lowest = policy.model.layers[0]
    assert policy.common_layers.count == 1  # compares passes when it is made
    calls = called(monkeypatch, lowest)
    with policy.common_layers.recorded():
        reference = reference_scores(policy.reference_scorer, rows, NEEDS)
    with policy.common_layers.given() as left:
        score(policy.scorer, rows, batch(), reference, NEEDS)
        assert not calls and not left
    assert policy.model.layers[0] is lowest, "the layers are in their places again"
    with policy.common_layers.given():
        score(policy.scorer, rows, batch(), reference, NEEDS)
    assert len(calls) == 2, "what is recorded serves once"


def test_a_divergence_is_the_same_without_common_layers(model_folder: ModelFolder) -> None:
    policy, pairs = moved_policy(str(model_folder("llama")), LAST), batch()
    found = divergence(policy, pairs.prompts, pairs.chosen, 2)
    policy.common_layers.count = 0
    assert found == pytest.approx(divergence(policy, pairs.prompts, pairs.chosen, 2), rel=1e-4)


def test_a_layer_is_in_common_only_with_the_same_weights_below(model_folder: ModelFolder) -> None:
    folder = str(model_folder("qwen3"))
    assert Policy.load(folder, AdapterConfig(rank=4, layers=-1)).common_layers.count == 0
    assert Policy.load(folder, AdapterConfig(type="full", layers=1), "start").common_layers.count == 1

    trained_embedding = Policy.load(folder, LAST)
    trained_embedding.model.model.embed_tokens.unfreeze()
    assert trained_embedding.common_layers.count == 0

    other_weights = Policy.load(folder, LAST)
    other_weights.reference = view(other_weights.reference)
    lowest = other_weights.reference.layers[0].input_layernorm
    lowest.weight = lowest.weight + mx.array(0.0)
    assert other_weights.common_layers.count == 0

    dropout = Policy.load(folder, LAST)
    dropout.model.layers[0].dropout = nn.Dropout(0.5)
    assert dropout.common_layers.count == 0

    checkpointed = Policy.load(folder, LAST)
    checkpoint_layers(checkpointed.model)
    assert checkpointed.common_layers.count == 0
