"""What is wrong with a model, a reference or adapters is said in a sentence before the first step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import load as mlx_lm_load
from mlx_lm.models.cache import KVCache

import prefloop
from prefloop import Policy, Prompt, UserError
from prefloop.cli import main
from prefloop.config import AdapterConfig, ModelConfig
from prefloop.errors import Notice
from prefloop.model.loading import load_model
from prefloop.model.mlx_lm_internals import ignored_window, not_finite
from prefloop.runs import preparation
from prefloop.runs.preparation import prepare
from support.small_runs import settings_for
from support.tiny_models import ModelFolder, build

TOKENS = mx.array([[5, 9, 20, 33, 7]])
PROMPT = Prompt(tuple(range(5, 17)), "")


def changed(folder: Path, **tensors: mx.array) -> Path:
    """The model in `folder` with other tensors, ``__`` standing for a dot."""
    weights: Any = mx.load(str(folder / "model.safetensors"))
    weights |= {name.replace("__", "."): value for name, value in tensors.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder


def configured(folder: Path, **settings: Any) -> Path:
    """The model in `folder` with other settings."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


# Folders and weights


def test_a_folder_whose_name_is_a_pattern_is_read_itself(tmp_path: Path) -> None:
    ours, theirs = build(tmp_path / "[ab]", seed=1), build(tmp_path / "a", seed=2)
    (theirs / "extra.py").write_text("")
    loaded = load_model(str(ours))
    expected: Any = mx.load(str(ours / "model.safetensors"))
    assert mx.array_equal(loaded.model.model.embed_tokens.weight, expected["model.embed_tokens.weight"])
    assert loaded.folder == ours
    Policy.load(str(ours)).save_model(tmp_path / "whole")
    assert not (tmp_path / "whole" / "extra.py").exists()


def test_two_files_that_hold_one_tensor_are_refused(tmp_path: Path) -> None:
    """mlx-lm reads them in the order of the directory, which is chance."""
    folder = build(tmp_path / "model")
    weights: Any = mx.load(str(folder / "model.safetensors"))
    name = "model.norm.weight"
    mx.save_safetensors(str(folder / "model-old.safetensors"), {name: weights[name]})
    with pytest.raises(UserError, match=r"'model-old\.safetensors' and 'model\.safetensors' both hold"):
        load_model(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    folder = build(tmp_path / "model")
    weight = mx.ones((64,))
    weight[3] = value
    changed(folder, model__norm__weight=weight)
    with pytest.raises(UserError, match=r"'model.norm.weight', of type \w+, holds NaN or infinite"):
        load_model(str(folder))
    with pytest.raises(UserError, match=r"^reference: model .* holds NaN or infinite"):
        Policy.load(str(build(tmp_path / "policy")), reference=str(folder))


def test_weights_too_large_for_their_type_are_refused(tmp_path: Path) -> None:
    folder = changed(build(tmp_path / "model"), model__norm__weight=mx.full((64,), 1e6))
    with pytest.raises(UserError, match=r"'model.norm.weight', of type float16, holds NaN or infinite"):
        load_model(str(folder), dtype="float16")
    load_model(str(folder), dtype="bfloat16")


def test_a_sum_that_overflows_is_no_fault() -> None:
    large, small = mx.full((4096,), 60000.0, dtype=mx.float16), mx.full((2,), mx.nan, dtype=mx.bfloat16)
    assert not_finite({"large": large, "ids": mx.array([1, 2])}) == []
    assert not_finite({"large": large, "small": small}) == ["small"]


@pytest.mark.skipif(mx.default_device().type == mx.DeviceType.gpu, reason="a GPU has such a kernel")
def test_a_model_without_a_kernel_for_its_type_is_refused(model_folder: ModelFolder) -> None:
    with pytest.raises(UserError, match=r"cannot be loaded: .*only supports float32"):
        load_model(str(model_folder("qwen3_next")), dtype="bfloat16")


# Adapters


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (("self_attn.q_proj", "self_attn.v_porj"), "'self_attn.v_porj'. Did you mean 'self_attn.v_proj'?"),
        (("self_attn.q_proj", "q_proj"), "'q_proj'. Did you mean 'self_attn.q_proj'?"),
        (("self_attn.q_proj", "mixer.in"), "'mixer.in'. Known: mlp.down_proj, mlp.gate_proj"),
        (("self_attn.q_proj", "lm_head"), "no lm_head, its output layer is the embedding"),
    ],
)
def test_every_key_names_a_layer(model_folder: ModelFolder, keys: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=r"^adapter.keys: ") as caught:
        Policy.load(str(model_folder("qwen3")), AdapterConfig(keys=keys))
    assert complaint in str(caught.value)


def test_a_key_that_only_layers_that_are_not_trained_have_is_refused(model_folder: ModelFolder) -> None:
    folder = str(model_folder("lfm2"))  # its first layer is a convolution, its second attention
    Policy.load(folder, AdapterConfig(keys=("conv.in_proj", "self_attn.q_proj"), layers=2))
    with pytest.raises(UserError, match=r"no layer that is trained is called 'conv.in_proj'"):
        Policy.load(folder, AdapterConfig(keys=("conv.in_proj", "self_attn.q_proj"), layers=1))


def test_a_rank_beyond_every_layer_is_refused(model_folder: ModelFolder) -> None:
    folder = str(model_folder("qwen3"))
    with pytest.raises(UserError, match=r"^adapter.rank: 1000000000 is more than the widest layer"):
        Policy.load(folder, AdapterConfig(rank=10**9))


@pytest.mark.parametrize(
    ("saved", "asked", "complaint"),
    [
        ({"scale": 10.0}, {}, "trained with scale 10.0, and adapter.scale is 20.0. Set adapter.scale: 10.0"),
        ({"rank": 4}, {}, "trained with rank 4, and adapter.rank is 8"),
        ({"type": "dora"}, {}, "trained with type dora, and adapter.type is lora"),
        ({}, {"type": "dora"}, "trained with type lora, and adapter.type is dora"),
        ({}, {"type": "full"}, "trained with type lora, and adapter.type is full"),
    ],
)
def test_adapters_go_on_as_they_were_trained(
    model_folder: ModelFolder, tmp_path: Path, saved: dict[str, Any], asked: dict[str, Any], complaint: str
) -> None:
    folder = str(model_folder("qwen3"))
    Policy.load(folder, AdapterConfig(**saved)).save(tmp_path)
    for source in (tmp_path, tmp_path / "adapters.safetensors"):
        with pytest.raises(UserError, match=r"^adapter.resume_from: ") as caught:
            Policy.load(folder, AdapterConfig(**asked, resume_from=str(source)))
        assert complaint in str(caught.value)


def test_adapters_go_on_with_the_model_that_they_were_trained_on(tmp_path: Path) -> None:
    base = build(tmp_path / "base")
    Policy.load(str(base)).save(tmp_path)
    adapter = AdapterConfig(resume_from=str(tmp_path))
    shutil.copytree(base, tmp_path / "copy")
    Policy.load(str(tmp_path / "copy"), adapter)
    with pytest.raises(UserError, match=r"trained on '.*base', whose weights are not those of '.*other'"):
        Policy.load(str(build(tmp_path / "other", seed=1)), adapter)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (mx.full((64, 8), mx.nan), "holds NaN or infinite numbers"),
        (mx.full((64, 8), mx.inf), "holds NaN or infinite numbers"),
        (mx.ones((64, 8), dtype=mx.int32), "holds mlx.core.int32, not floating-point numbers"),
    ],
)
def test_adapters_hold_finite_floating_point_numbers(
    model_folder: ModelFolder, tmp_path: Path, value: mx.array, complaint: str
) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    policy.save(tmp_path)
    name = "model.layers.1.self_attn.q_proj.lora_a"
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), {**policy.trainable(), name: value})
    with pytest.raises(UserError, match=f"^adapter.resume_from: '{name}' in .* {complaint}"):
        Policy.load(str(model_folder("qwen3")), AdapterConfig(resume_from=str(tmp_path)))


def test_a_model_that_reads_a_weight_itself_takes_no_adapter_there(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(str(model_folder("qwen3")))
    attention = type(loaded.model.layers[0].self_attn)
    monkeypatch.setattr(attention, "__call__", lambda self, x, *_, **__: x @ self.q_proj.weight[:64])
    with pytest.raises(UserError, match=r"^adapter.type: lora does not fit this model: .*'weight'"):
        Policy.load(str(model_folder("qwen3")))


# The reference


def wider(folder: Path, rows: int) -> Path:
    """The model with so many more rows in its embedding, which no token of the tokenizer has."""
    weights: Any = mx.load(str(folder / "model.safetensors"))
    embedding = weights["model.embed_tokens.weight"]
    padded = mx.concatenate([embedding, mx.ones((rows, embedding.shape[1]))])
    changed(folder, model__embed_tokens__weight=padded)
    return configured(folder, vocab_size=len(embedding) + rows)


def test_a_wider_reference_knows_only_what_the_policy_can_say(tmp_path: Path) -> None:
    narrow, wide = build(tmp_path / "narrow", seed=1), wider(build(tmp_path / "wide", seed=1), 8)
    policy = Policy.load(str(narrow), reference=str(wide))
    expected, _ = mlx_lm_load(str(narrow))
    assert mx.allclose(policy.reference(TOKENS), expected(TOKENS), atol=1e-5)
    hidden = policy.reference_scorer.model
    assert hidden.is_split
    assert hidden.lm_head(hidden.backbone(TOKENS)[0]).shape == expected(TOKENS)[0].shape
    whole, _ = mlx_lm_load(str(wide))  # the model of the class itself is as it was
    assert whole(TOKENS).shape[-1] == expected(TOKENS).shape[-1] + 8


def test_a_narrower_reference_is_refused(tmp_path: Path) -> None:
    narrow, wide = build(tmp_path / "narrow"), wider(build(tmp_path / "wide"), 8)
    with pytest.raises(UserError, match=r"^reference '.*narrow': it gives logits for \d+ tokens"):
        Policy.load(str(wide), reference=str(narrow))


# Sampling against scoring


def test_what_is_sampled_is_scored_alike(model_folder: ModelFolder) -> None:
    for family in ("qwen3", "gemma3_text", "mamba2", "gemma2", "llama4"):
        policy = Policy.load(str(model_folder(family)))
        engine = policy._generators["policy"]._engines[0]
        policy.check_sampling(PROMPT)
        assert engine is policy._generators["policy"]._engines[0] or family in ("llama4", "gemma2")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("quantize", ["none", "4bit"])
def test_rounding_is_no_disagreement(model_folder: ModelFolder, dtype: Any, quantize: Any) -> None:
    model = ModelConfig(str(model_folder("qwen3")), quantize=quantize, dtype=dtype)
    Policy.load(model).check_sampling(PROMPT)


def test_a_cache_that_forgets_is_noticed(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    append = KVCache.update_and_fetch

    def forget(self: Any, keys: mx.array, values: mx.array) -> Any:
        keys, values = append(self, keys, values)
        return keys[..., -4:, :], values[..., -4:, :]

    monkeypatch.setattr(KVCache, "update_and_fetch", forget)
    with pytest.raises(UserError, match=r"model: tokens are not sampled from the distribution .*\(qwen3\)"):
        policy.check_sampling(PROMPT)


def test_logits_that_are_not_finite_are_refused(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("llama")))
    policy.model.lm_head.weight = policy.model.lm_head.weight * mx.inf
    with pytest.raises(UserError, match=r"^model: its logits for a prompt of this run are NaN or infinite"):
        policy.check_sampling(PROMPT)


def test_a_run_checks_its_sampling_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Prompt] = []
    monkeypatch.setattr(Policy, "check_sampling", lambda _, prompt: checked.append(prompt))
    prepared = prepare(prefloop.load_config(settings_for(tmp_path / "run"))).with_components()
    first = [prepared.loop.prompts[i] for i in prepared.loop.order.indices(0, prepared.loop.batch_size)]
    assert [len(p.tokens) for p in checked] == [max(len(p.tokens) for p in first)]


# Sliding windows


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({"model_type": "mistral", "sliding_window": 24}, 24),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "qwen3", "sliding_window": 24}, None),  # off by default
        ({"model_type": "qwen3", "sliding_window": 24, "use_sliding_window": False}, None),
        ({"model_type": "qwen3", "sliding_window": 24, "use_sliding_window": True}, 24),
        ({"model_type": "llama", "sliding_window": 24}, None),  # no window in transformers either
        ({"model_type": "gemma3_text", "sliding_window": 24}, None),  # mlx-lm computes it
        ({"model_type": "mistral", "sliding_window": 24, "layer_types": ["sliding_attention"]}, None),
        ({"model_type": "gemma2", "sliding_window": 24, "layer_types": ["sliding_attention"]}, 24),
        ({"model_type": "mixtral", "sliding_window": 24, "layer_types": ["full_attention"]}, None),
    ],
)
def test_a_window_that_is_left_out_is_known(settings: dict[str, Any], window: int | None) -> None:
    assert ignored_window(settings) == window
    assert ignored_window({"model_type": "mistral3", "text_config": settings}) == window


@pytest.mark.parametrize(("window", "warns"), [(12, True), (4096, False)])
def test_the_plan_says_what_lies_beyond_a_window(tmp_path: Path, window: int, warns: bool) -> None:
    model = configured(build(tmp_path / "model", "llama"), model_type="mistral", sliding_window=window)
    plan = prepare(prefloop.load_config(settings_for(tmp_path / "run", model=str(model)))).plan
    assert any("sliding window of 12 tokens" in text for text in plan.warnings) == warns


def test_a_judge_that_may_read_beyond_a_window_warns(tmp_path: Path) -> None:
    model = configured(build(tmp_path / "judge", "llama"), model_type="mistral", sliding_window=256)
    judge = prefloop.component("judge", "llm")(model=str(model), max_length=300)
    with pytest.warns(Notice, match=r"judge model '.*' was trained with a sliding window of 256 tokens"):
        judge.prepare()


def test_the_command_line_prints_a_notice_as_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(preparation, "dry_run", lambda *_, **__: warnings.warn("so", Notice, stacklevel=1))
    with pytest.raises(SystemExit):
        main(["train", "--dry-run"])
    assert "warning: so\n" in capsys.readouterr().err


# mlx without a back end


@pytest.mark.parametrize("command", ["train", "config init"])
def test_mlx_without_a_back_end_names_the_extras(tmp_path: Path, command: str) -> None:
    stub = tmp_path / "mlx"
    stub.mkdir()
    (stub / "__init__.py").write_text("")
    (stub / "core.py").write_text("raise ImportError('libmlx.so: cannot open shared object file')\n")
    paths = [str(tmp_path), *sys.path]
    done = subprocess.run(
        [sys.executable, "-m", "prefloop", *command.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: mlx cannot be loaded")
    assert "'prefloop[cpu]'" in line
    assert "'prefloop[cuda]'" in line
