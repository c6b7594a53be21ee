"""Nothing of shape ``[tokens, vocabulary]`` outlives its chunk, forward or backward."""

from __future__ import annotations

import gc

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import qwen3

from prefloop import Completion, Prompt
from prefloop.cpu import kernels
from prefloop.model.mlx_lm_internals import checkpoint_layers
from prefloop.model.weight_sharing import view
from prefloop.scoring import token_terms
from prefloop.scoring.scorer import Scorer, lay_out

VOCABULARY, TOKENS, LENGTH = 20_000, 192, 32
LOGITS = TOKENS * VOCABULARY * 4
"""Bytes of the logits of so many tokens."""


def model(tied: bool, width: int = 16, layers: int = 1, vocabulary: int = VOCABULARY) -> nn.Module:
    """One thin layer under a wide vocabulary, unless something else is asked for."""
    widths = dict.fromkeys(("hidden_size", "intermediate_size", "head_dim"), width)
    sizes = {**widths, "num_hidden_layers": layers, "vocab_size": vocabulary}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "tie_word_embeddings": tied}
    other = {"rms_norm_eps": 1e-6, "rope_theta": 1e4, "max_position_embeddings": 512}
    args = {"model_type": "qwen3", **sizes, **heads, **other}
    mx.random.seed(0)
    made: nn.Module = qwen3.Model(qwen3.ModelArgs.from_dict(args))
    return made


def peak(policy: nn.Module, tokens: int, *, backward: bool) -> int:
    """Bytes that scoring `tokens` adds at its peak to what is there before."""
    prompts = [Prompt((1, 2), "")] * (tokens // LENGTH)
    rows = lay_out(prompts, [Completion(tuple(range(5, 5 + LENGTH)), "")] * len(prompts))
    ours, theirs = Scorer(policy), Scorer(view(policy))
    reference = theirs.hidden(rows)
    mx.eval(reference.states, policy.parameters())

    def loss() -> mx.array:
        terms = token_terms.token_terms(ours.hidden(rows), rows.targets, reference)
        assert terms.kl is not None
        return (terms.kl - terms.logprobs).mean()

    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(nn.value_and_grad(policy, loss)() if backward else loss())
    return int(mx.get_peak_memory() - before)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("head", "on_host"), [("frozen", False), ("frozen", True), ("trained", False), ("tied", False)]
)
def test_memory_for_logits_does_not_grow_with_tokens(
    monkeypatch: pytest.MonkeyPatch, head: str, on_host: bool, backward: bool
) -> None:
    monkeypatch.setattr(token_terms, "CHUNK_BYTES", 1)  # so a chunk has the fewest rows
    monkeypatch.setattr(token_terms, "_FEWEST_ROWS", 8)
    monkeypatch.setattr(kernels, "MIN_TRACED_LOGITS", 0 if on_host else 1 << 60)
    policy = model(tied=head == "tied")
    if head == "frozen":
        policy.freeze()
        policy.layers[0].unfreeze()
    few, many = (peak(policy, tokens, backward=backward) for tokens in (TOKENS, 2 * TOKENS))
    assert many - few < LOGITS / 4
    assert many < 1.5 * LOGITS, "less than one array of the logits of all the tokens"


def test_the_layers_keep_no_more_from_some_number_of_logits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NumPy works out the terms, mlx keeps all that the layers compute: in deep models, the most."""
    policy = model(tied=True, width=64, layers=24, vocabulary=2000)
    policy.freeze()
    for layer in policy.layers:
        layer.unfreeze()
    monkeypatch.setattr(kernels, "MIN_TRACED_LOGITS", TOKENS * 2000 + 1)
    below = peak(policy, TOKENS, backward=True)
    monkeypatch.setattr(kernels, "MIN_TRACED_LOGITS", TOKENS * 2000)
    assert peak(policy, TOKENS, backward=True) < 1.05 * below
    monkeypatch.setattr(kernels, "MIN_TRACED_WIDTH", 0)
    assert not kernels.slow_exp() or peak(policy, TOKENS, backward=True) > 1.15 * below, "what NumPy costs"


@pytest.mark.parametrize("wide", [False, True])
def test_gradient_checkpointing_lowers_the_peak_whatever_the_vocabulary(
    monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    """NumPy, which a wide head asks for, would look into the pass, and mlx would keep all of it."""
    monkeypatch.setattr(kernels, "MIN_TRACED_LOGITS", 0)
    monkeypatch.setattr(kernels, "MIN_TRACED_WIDTH", 0 if wide else 1 << 30)
    policy = model(tied=True, width=64, layers=24, vocabulary=2000)
    policy.freeze()
    for layer in policy.layers:
        layer.unfreeze()
    plain = peak(policy, TOKENS, backward=True)
    checkpoint_layers(policy)
    assert peak(policy, TOKENS, backward=True) < 0.5 * plain


def test_numpy_has_the_terms_of_many_tokens_under_a_wide_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "slow_exp", lambda: True)
    small, deep, deeper = 6 * 256, 30 * 576, 28 * 1024
    assert kernels.use_numpy(512, 151_936, small)
    assert not kernels.use_numpy(64, 151_936, small), "too few tokens"
    assert not kernels.use_numpy(512, 49_152, deep) and not kernels.use_numpy(512, 151_936, deeper)
