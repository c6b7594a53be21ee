"""Dropout in adapters: the gradient under checkpointing, and checks that compare a model with itself."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from prefloop import Policy, PreferenceBatch
from prefloop.config import AdapterConfig
from prefloop.model.mlx_lm_internals import checkpoint_layers
from prefloop.model.weight_sharing import arrays
from support.loops import make_loop
from support.plain_scoring import batch, error, moved_policy
from support.tiny_models import ModelFolder


def gradient(policy: Policy, pairs: PreferenceBatch) -> dict[str, mx.array]:
    loop = make_loop(policy)
    found, _ = loop.gradient(pairs, loop.progress(1), sum(pairs.weight))
    return arrays(found)


@pytest.mark.parametrize("family", ["qwen3", "mamba2"])
def test_checkpointing_drops_out_the_same_when_it_recomputes(model_folder: ModelFolder, family: str) -> None:
    adapter = AdapterConfig(dropout=0.3, layers=-1)
    plain = moved_policy(str(model_folder(family)), adapter)
    plain.scorer.__dict__["_can_share"] = False  # shared prompts pass once, and so drop out once
    again = moved_policy(str(model_folder(family)), adapter)
    checkpoint_layers(again.model)
    wanted = gradient(plain, batch())
    assert error(gradient(again, batch()), wanted) < 1e-5
    sure = moved_policy(str(model_folder(family)), AdapterConfig(layers=-1))
    assert error(gradient(sure, batch()), wanted) > 0.05, "nothing was dropped out"


def test_checkpointed_layers_drop_out_differently(model_folder: ModelFolder) -> None:
    """Each layer, and each pass, has random numbers of its own."""
    policy = moved_policy(str(model_folder("qwen3")), AdapterConfig(dropout=0.5, layers=-1))
    checkpoint_layers(policy.model)
    policy.model.train()
    tokens = mx.array([[5, 6, 7, 8]])
    first, second = (np.asarray(policy.model(tokens)) for _ in range(2))
    assert not np.allclose(first, second)


def test_a_model_is_divided_and_prompts_are_shared_whatever_is_dropped_out(model_folder: ModelFolder) -> None:
    policy = moved_policy(str(model_folder("qwen3")), AdapterConfig(dropout=0.5, layers=-1))
    policy.model.train()
    assert policy.scorer.model.is_split
    assert policy.scorer.shares_prompts
    assert policy.model.training
    assert policy.model.layers[0].self_attn.q_proj.dropout.training
