"""The fast scoring path against a plain one: log-probabilities, exact KL and every gradient.

The plain one is in `support.plain_scoring`. What is fast: prompts computed once for both completions, only
completion positions through the output head, chunks of them, NumPy for large vocabularies, gradients by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from prefloop import Policy, PreferenceBatch
from prefloop.config import AdapterConfig
from prefloop.cpu import attention, kernels, on_cpu, slow_exp
from prefloop.model import mlx_lm_internals as internals
from prefloop.scoring import token_terms
from support.cpu_lanes import two_lanes
from support.family_traits import TRAITS
from support.plain_scoring import batch, error, fast, moved_policy, plain
from support.tiny_models import FAMILIES, ModelFolder

OWN_ATTENTION = {"gemma2", "mamba2", "gpt_oss", "deepseek_v3"}
"""Their attention is no call of mlx's, or one with more to it than a softmax of scores."""
HEAD, EMBEDDING = ("self_attn.q_proj", "lm_head"), ("self_attn.q_proj", "model.embed_tokens")
ADAPTERS: dict[str, tuple[str, AdapterConfig, str]] = {
    "lora": ("qwen3", AdapterConfig(type="lora"), "none"),
    "dora": ("qwen3", AdapterConfig(type="dora"), "none"),
    "full, tied head": ("qwen3", AdapterConfig(type="full", layers=-1), "none"),
    "full, own head": ("llama", AdapterConfig(type="full", layers=-1), "none"),
    "full, head frozen": ("llama", AdapterConfig(type="full", layers=1), "none"),
    "lora on the head": ("llama", AdapterConfig(type="lora", keys=HEAD), "none"),
    "dora on the head": ("llama", AdapterConfig(type="dora", keys=HEAD), "none"),
    "lora on the tied embedding": ("qwen3", AdapterConfig(type="lora", keys=EMBEDDING), "none"),
    "4-bit, lora": ("qwen3", AdapterConfig(type="lora"), "4bit"),
    "4-bit, dora": ("qwen3", AdapterConfig(type="dora"), "4bit"),
    "4-bit, lora on the head": ("llama", AdapterConfig(type="lora", keys=HEAD), "4bit"),
    "mxfp4, lora": ("llama", AdapterConfig(type="lora"), "mxfp4"),
}
"""The family, what is trained, and how the base is quantized."""


@pytest.fixture(params=["one chunk", "chunks", "host", "chunks on the host"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How completion tokens go through the head: all at once or three by three, in mlx or in NumPy."""
    named = str(request.param)
    if "chunks" in named:
        _in_chunks_of(3, monkeypatch)
    if "host" in named:
        monkeypatch.setattr(kernels, "MIN_TRACED_LOGITS", 0)
        monkeypatch.setattr(kernels, "MIN_TRACED_WIDTH", 0)
    return named


def _in_chunks_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_terms, "CHUNK_BYTES", 1)
    monkeypatch.setattr(token_terms, "_FEWEST_ROWS", rows)


def check(policy: Policy, pairs: PreferenceBatch | None = None) -> None:
    """The fast path gives what the plain one gives."""
    pairs = pairs or batch()
    _compare(fast(policy, pairs), plain(policy, pairs))


def _compare(found: Any, wanted: Any) -> None:
    assert float(wanted[0][1].min()) > 1e-4, "the policy should have moved away from the reference"
    for ours, expected in zip(found[0], wanted[0], strict=True):
        # The smallest KL is 2e-3, a sum of differences of logits near one, each good to about 1e-6.
        np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=1e-4, atol=1e-5)
    assert error(found[1], wanted[1]) < 1e-4
    errors = {name: error({name: found[1][name]}, {name: value}) for name, value in wanted[1].items()}
    assert max(errors.values()) < 1e-3, max(errors, key=errors.__getitem__)


@pytest.mark.parametrize("family", TRAITS)
def test_every_family_and_cache(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    _in_chunks_of(5, monkeypatch)
    check(moved_policy(str(model_folder(family)), AdapterConfig(rank=4, layers=-1)))


@pytest.mark.skipif(not slow_exp(), reason="mlx's own attention is fast here")
@pytest.mark.parametrize("family", TRAITS)
def test_every_family_with_numpy_attention_for_the_reference(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    calls: list[tuple[int, ...]] = []
    real = attention.attend

    def attend(q: mx.array, *rest: mx.array, **options: Any) -> mx.array:
        calls.append(q.shape)
        return real(q, *rest, **options)

    monkeypatch.setattr(attention, "attend", attend)
    monkeypatch.setattr(attention, "MIN_SCORES", 0)
    monkeypatch.setattr(attention, "QUERIES", 3)
    check(moved_policy(str(model_folder(family)), AdapterConfig(rank=4, layers=-1)))
    assert bool(calls) == (family not in OWN_ATTENTION)


@pytest.mark.skipif(not on_cpu(), reason="lanes are for mlx's CPU back end")
@pytest.mark.parametrize("family", TRAITS)
def test_every_family_in_two_lanes(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    _in_chunks_of(5, monkeypatch)
    policy = moved_policy(str(model_folder(family)), AdapterConfig(rank=4, layers=-1))
    with two_lanes(monkeypatch):
        check(policy)


@pytest.mark.skipif(not on_cpu(), reason="lanes are for mlx's CPU back end")
@pytest.mark.parametrize("pairs", [1, 2, 3])
@pytest.mark.parametrize("case", ADAPTERS)
def test_every_adapter_type_in_two_lanes(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, case: str, pairs: int, way: str
) -> None:
    """With prompts that can be divided, and with one or three, which one lane reads."""
    family, adapter, quantize = ADAPTERS[case]
    policy = moved_policy(str(model_folder(family)), adapter, quantize)
    with two_lanes(monkeypatch):
        check(policy, batch().select(range(pairs)))


def test_every_family_takes_the_fast_path(model_folder: ModelFolder) -> None:
    """One that fell back to whole prompts or whole logits would still score well, only slowly."""
    scorers = {family: Policy.load(str(model_folder(family))).reference_scorer for family in FAMILIES}
    for family, scorer in scorers.items():
        caches = {type(cache).__name__ for cache in make_prompt_cache(scorer.model.whole)}
        assert caches == set(TRAITS[family].caches.split()), family
        assert scorer.shares_prompts == TRAITS[family].shares_prompts, family
    assert [family for family, scorer in scorers.items() if not scorer.model.is_split] == []


@pytest.mark.parametrize("case", ADAPTERS)
def test_every_adapter_type_on_every_path(model_folder: ModelFolder, case: str, way: str) -> None:
    family, adapter, quantize = ADAPTERS[case]
    policy = moved_policy(str(model_folder(family)), adapter, quantize)
    assert ("scales" in policy.reference.layers[0].self_attn.q_proj) == (quantize != "none")
    check(policy)


@pytest.mark.parametrize(
    ("case", "trained"), [("lora", False), ("full, head frozen", False), ("lora on the head", True)]
)
def test_the_head_never_sees_more_than_a_chunk(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, case: str, trained: bool, way: str
) -> None:
    """The ways are taken: a trained head is never left to NumPy, and no call sees more than a chunk."""
    seen: dict[str, list[int]] = {"_chunk_terms": [], "numpy_terms": []}
    for name, real in [(name, getattr(token_terms, name)) for name in seen]:

        def spy(logits: mx.array, *rest: Any, real: Any = real, rows: list[int] = seen[name]) -> Any:
            rows.append(len(logits))
            return real(logits, *rest)

        monkeypatch.setattr(token_terms, name, spy)
    family, adapter, quantize = ADAPTERS[case]
    fast(moved_policy(str(model_folder(family)), adapter, quantize), batch())
    once = [3] * 7 + [1] if "chunks" in way else [22]
    taken, left = "_chunk_terms", "numpy_terms"
    if "host" in way and not trained:
        taken, left = left, taken
    assert seen[taken] == once * (2 if trained else 1)  # once more in the backward pass
    assert not seen[left]


@pytest.mark.parametrize("lengths", [(1, 1, 1), (7, 7, 7), (1, 2, 30)], ids=str)
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "deepseek_v3", "gpt_oss"])
def test_prompts_of_any_length(model_folder: ModelFolder, family: str, lengths: tuple[int, ...]) -> None:
    check(moved_policy(str(model_folder(family)), AdapterConfig(rank=4)), batch(lengths))


def test_shared_prompts_score_like_whole_rows(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = moved_policy(str(model_folder("qwen3")), AdapterConfig())
    shared = fast(policy, batch())
    monkeypatch.setattr(policy.scorer, "_can_share", False)
    assert not policy.scorer.shares_prompts
    _compare(shared, fast(policy, batch()))


@pytest.mark.parametrize("family", ["llama", "gpt_oss", "qwen3_next", "recurrent_gemma"])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_gradient_checkpointing_changes_no_gradient(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str, kind: str
) -> None:
    policy = moved_policy(str(model_folder(family)), AdapterConfig(type=kind, layers=-1))  # type: ignore[arg-type]
    wanted = plain(policy, batch())
    shared = policy.scorer.shares_prompts
    for layer in {type(layer) for layer in policy.model.layers}:  # it patches classes: put them back
        monkeypatch.setattr(layer, "__call__", layer.__call__)
        monkeypatch.setattr(layer, internals._CHECKPOINTED, False, raising=False)
    internals.checkpoint_layers(policy.model)
    assert shared == TRAITS[family].shares_prompts
    assert not policy.scorer.shares_prompts
    _compare(fast(policy, batch()), wanted)


def test_a_model_that_skips_its_base_constructor_can_be_trained(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    """mlx-lm's recurrent_gemma does not call its base class's constructor."""
    policy = moved_policy(str(model_folder("recurrent_gemma")), AdapterConfig())
    tokens = mx.array([[5, 6, 7, 8]])
    assert not mx.allclose(policy.model(tokens), policy.reference(tokens), atol=1e-3)
    policy.save(tmp_path)
    again = Policy.load(str(model_folder("recurrent_gemma")), AdapterConfig(resume_from=str(tmp_path)))
    assert mx.array_equal(policy.model(tokens), again.model(tokens))
