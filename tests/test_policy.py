"""The policy: what is trained, what the reference is, and adapters that mlx-lm can read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import load as mlx_lm_load

from prefloop import Policy, Prompt, UserError
from prefloop.config import AdapterConfig, ModelConfig
from prefloop.model.loading import load_model
from prefloop.settings import Dtype
from support.tiny_models import ModelFolder

TOKENS = mx.array([[5, 9, 20, 33, 7]])


def moved(policy: Policy) -> Policy:
    """The policy after its trainable tensors changed."""
    mx.random.seed(1)
    noisy = {k: v + 0.05 * mx.random.normal(v.shape) for k, v in policy.trainable().items()}
    policy.model.load_weights(list(noisy.items()), strict=False)
    return policy


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_the_base_reference_is_the_model_as_loaded(model_folder: ModelFolder, kind: str) -> None:
    folder = str(model_folder("qwen3"))
    frozen, _ = mlx_lm_load(folder)
    policy = moved(Policy.load(folder, AdapterConfig(type=kind)))
    assert mx.array_equal(policy.reference(TOKENS), frozen(TOKENS))
    assert not mx.allclose(policy.model(TOKENS), frozen(TOKENS), atol=1e-3)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_base_reference_holds_no_second_copy(model_folder: ModelFolder, kind: str) -> None:
    policy = Policy.load(str(model_folder("qwen3")), AdapterConfig(type=kind))
    layer = policy.model.layers[0].self_attn.q_proj
    assert layer.linear.weight is policy.reference.layers[0].self_attn.q_proj.weight


def test_the_start_reference_keeps_the_adapters_of_the_start(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = str(model_folder("qwen3"))
    moved(Policy.load(folder, seed=1)).save(tmp_path)
    policy = Policy.load(folder, AdapterConfig(resume_from=str(tmp_path)), "start")
    start = policy.model(TOKENS)
    assert mx.array_equal(policy.reference(TOKENS), start)
    moved(policy)
    assert mx.array_equal(policy.reference(TOKENS), start)
    base = Policy.load(folder, AdapterConfig(resume_from=str(tmp_path)), "base")
    assert not mx.allclose(base.reference(TOKENS), start, atol=1e-3)


def test_another_model_as_reference(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")), reference=str(model_folder("llama")))
    other, _ = mlx_lm_load(str(model_folder("llama")))
    assert mx.array_equal(policy.reference(TOKENS), other(TOKENS))


def test_policy_and_judge_of_one_folder_share_their_weights(model_folder: ModelFolder) -> None:
    folder = str(model_folder("qwen3"))
    policy = Policy.load(folder)
    judge = load_model(folder)
    ours, theirs = policy.model.layers[0].mlp.up_proj, judge.model.layers[0].mlp.up_proj
    assert ours.linear.weight is theirs.weight
    assert "lora_a" not in theirs


@pytest.mark.parametrize("quantize", ["4bit", "6bit", "8bit", "mxfp4"])
def test_quantized_bases_take_adapters(model_folder: ModelFolder, quantize: str) -> None:
    model = ModelConfig(path=str(model_folder("qwen3")), quantize=quantize)
    policy = Policy.load(model)
    assert "scales" in policy.model.layers[0].self_attn.q_proj.linear
    assert mx.array_equal(policy.model(TOKENS), policy.reference(TOKENS))
    assert all(name.rsplit(".", 1)[-1] in ("lora_a", "lora_b") for name in policy.trainable())


def test_adapters_go_to_the_given_layers_and_keys(model_folder: ModelFolder) -> None:
    adapter = AdapterConfig(layers=1, keys=("self_attn.q_proj", "self_attn.v_proj"))
    policy = Policy.load(str(model_folder("qwen3")), adapter)
    assert sorted(policy.trainable()) == [
        f"model.layers.1.self_attn.{name}_proj.lora_{factor}" for name in "qv" for factor in "ab"
    ]


def test_keys_that_name_no_layer_are_refused(model_folder: ModelFolder) -> None:
    with pytest.raises(UserError, match="no layer that is trained is called"):
        Policy.load(str(model_folder("qwen3")), AdapterConfig(keys=("attention.query",)))


def test_full_fine_tuning_of_quantized_weights_is_refused(model_folder: ModelFolder) -> None:
    model = ModelConfig(path=str(model_folder("qwen3")), quantize="4bit")
    with pytest.raises(UserError, match="cannot train quantized weights"):
        Policy.load(model, AdapterConfig(type="full"))


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_mlx_lm_loads_what_is_saved(model_folder: ModelFolder, tmp_path: Path, kind: str) -> None:
    folder = str(model_folder("qwen3"))
    policy = moved(Policy.load(folder, AdapterConfig(type=kind)))
    policy.save(tmp_path)
    loaded, _ = mlx_lm_load(folder, adapter_path=str(tmp_path))
    assert mx.allclose(loaded(TOKENS), policy.model(TOKENS), atol=1e-5)
    again = Policy.load(folder, AdapterConfig(type=kind, resume_from=str(tmp_path)), seed=9)
    assert mx.array_equal(again.model(TOKENS), policy.model(TOKENS))


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_a_fused_model_loads_on_its_own(model_folder: ModelFolder, tmp_path: Path, kind: str) -> None:
    policy = moved(Policy.load(str(model_folder("llama")), AdapterConfig(type=kind)))
    policy.save_model(tmp_path / "whole")
    loaded, _ = mlx_lm_load(str(tmp_path / "whole"))
    assert mx.allclose(loaded(TOKENS), policy.model(TOKENS), atol=1e-4)
    assert policy.trainable(), "saving must not fuse the live policy"


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_the_configuration_of_a_whole_model_names_the_type_of_its_weights(
    model_folder: ModelFolder, tmp_path: Path, dtype: Dtype, stored: str
) -> None:
    source = shutil.copytree(model_folder("llama"), tmp_path / "half")
    config = json.loads((source / "config.json").read_text())
    named = {"torch_dtype": "float16", "text_config": {"dtype": "float16"}}
    (source / "config.json").write_text(json.dumps({**config, **named}))
    policy = Policy.load(ModelConfig(path=str(source), dtype=dtype), AdapterConfig(type="full"))
    policy.save_model(tmp_path / "whole")
    written = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert (written["torch_dtype"], written["text_config"]) == (stored, {"dtype": stored})
    weights: Any = mx.load(str(tmp_path / "whole" / "model.safetensors"))
    assert {str(value.dtype) for value in weights.values()} == {f"mlx.core.{stored}"}


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_mlx_lm_generate_reads_the_adapters(model_folder: ModelFolder, tmp_path: Path, kind: str) -> None:
    """The command that people type."""
    moved(Policy.load(str(model_folder("qwen3")), AdapterConfig(type=kind))).save(tmp_path)
    command = [sys.executable, "-m", "mlx_lm", "generate", "--model", str(model_folder("qwen3"))]
    command += ["--adapter-path", str(tmp_path), "--prompt", "Hi", "--max-tokens", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Generation: " in done.stdout


def test_adapters_that_do_not_fit_are_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = str(model_folder("qwen3"))
    Policy.load(folder, AdapterConfig(rank=4)).save(tmp_path)
    for adapter, complaint in (
        (AdapterConfig(resume_from=str(tmp_path)), r"trained with rank 4, and adapter\.rank is 8"),
        (AdapterConfig(rank=4, layers=1, resume_from=str(tmp_path)), "have no place in the model"),
        (AdapterConfig(resume_from=str(tmp_path / "elsewhere")), "there is no file"),
    ):
        with pytest.raises(UserError, match=complaint):
            Policy.load(folder, adapter)
    (tmp_path / "adapter_config.json").unlink()  # then only the shapes tell
    shapes = r"has shape \(.*\), the model wants .*Check adapter.rank"
    with pytest.raises(UserError, match=shapes):
        Policy.load(folder, AdapterConfig(resume_from=str(tmp_path)))
    (tmp_path / "adapters.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="is damaged"):
        Policy.load(folder, AdapterConfig(resume_from=str(tmp_path)))


def test_a_prompt_goes_through_the_chat_template(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    prompt = policy.encode("Hi", system="Be brief.")
    assert isinstance(prompt, Prompt)
    assert policy.tokenizer.decode(list(prompt.tokens)).startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert prompt.text == "Hi"


def test_the_adapter_config_names_what_mlx_lm_needs(model_folder: ModelFolder, tmp_path: Path) -> None:
    Policy.load(str(model_folder("qwen3")), AdapterConfig(type="dora", rank=3, layers=1)).save(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert saved["fine_tune_type"] == "dora"
    assert saved["num_layers"] == 1
    assert saved["lora_parameters"] == {"rank": 3, "scale": 20.0, "dropout": 0.0}
