"""`prefloop export fuse | gguf | lmstudio | peft`: each is loaded again by what it is for."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from mlx.utils import tree_flatten
from mlx_lm import generate
from mlx_lm import load as mlx_lm_load

from prefloop import Policy, Sampling, load_config, train
from prefloop.cli import main
from prefloop_plugins.commands.exports.trained import load_trained
from support.tiny_models import ModelFolder

QUESTIONS = ("What does a cow say?", "Write a story about the rain.")
GREEDY = Sampling(temperature=0.0, max_tokens=12)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, model_folder: ModelFolder) -> Any:
    """``runs("qwen3", "dora")``: a run of two steps, which moved its policy a long way."""
    made: dict[tuple[str, ...], Path] = {}

    def run(family: str = "qwen3", kind: str = "lora", quantize: str = "none") -> Path:
        key = (family, kind, quantize)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("runs") / "-".join(key)
            train(load_config(settings(model_folder(family), kind, quantize, made[key])))
        return made[key]

    return run


def settings(model: Path, kind: str, quantize: str, run: Path) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "quantize": quantize},
        "prompts": {"path": "embedded:prompts", "limit": 12},
        "judge": {"use": "rule", "length": "shorter", "prefer": ["e"]},
        "sampler": {"max_completion_length": 6},
        "adapter": {"type": kind, "rank": 4, "layers": 1},
        "training": {"batch_size": 2, "iters": 2, "learning_rate": 0.02, "save_every": 1},
        "evaluation": {"held_out": 0},
        "output": {"path": str(run), "report": False},
    }


def export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def exported(*arguments: object) -> str:
    done = export(*arguments)
    assert done.exit_code == 0, done.stderr or done.exception
    return done.stdout


def logits_of(model: Any, policy: Policy) -> np.ndarray:
    ids = policy.encode(QUESTIONS[0]).tokens
    return np.array(model(mx.array([ids]))[0].astype(mx.float32))


def policy_of(run: Path) -> Policy:
    return load_trained(run).policy


@pytest.mark.parametrize(
    ("family", "kind", "quantize"),
    [
        ("llama", "lora", "none"),
        ("qwen3", "dora", "none"),
        ("llama", "full", "none"),
        ("qwen3", "lora", "4bit"),
        ("qwen3", "lora", "mxfp4"),
    ],
)
def test_a_fused_model_answers_as_the_policy(
    runs: Any, tmp_path: Path, family: str, kind: str, quantize: str
) -> None:
    run = runs(family, kind, quantize)
    said = exported("fuse", run, "--output", tmp_path / "whole")
    assert said.startswith(f"Wrote {tmp_path / 'whole'}: the policy after step 2 (final).")
    assert ("rounding them again would lose what they learnt" in said) == (quantize != "none")
    policy = policy_of(run)
    model, tokenizer = mlx_lm_load(str(tmp_path / "whole"))
    wanted = logits_of(policy.model, policy)
    apart = np.abs(logits_of(model, policy) - wanted).max()
    if quantize == "mxfp4":  # mlx gives its weights in bfloat16, whatever type the rest is in
        assert apart < 0.02 * np.abs(wanted).max()
        return
    assert apart < 1e-3
    prompts = [*map(policy.encode, QUESTIONS)]
    for prompt, answer in zip(prompts, policy.generate(prompts, GREEDY, seed=0), strict=True):
        assert tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.text}], add_generation_prompt=True, enable_thinking=False
        ) == list(prompt.tokens)
        assert (
            generate(model, tokenizer, prompt=list(prompt.tokens), max_tokens=12).strip()
            == answer.text.strip()
        )


def test_layers_without_an_adapter_stay_quantized_unless_that_is_unwanted(runs: Any, tmp_path: Path) -> None:
    run = runs("qwen3", "lora", "4bit")
    exported("fuse", run, "--output", tmp_path / "some")
    assert "Nothing in it is quantized" in exported(
        "fuse", run, "--output", tmp_path / "none", "--dequantize"
    )
    kept: Any = mx.load(str(tmp_path / "some" / "model.safetensors"))
    quantized = {name.split(".")[2] for name in kept if name.endswith("proj.scales")}
    assert quantized == {"0"}, "the last of two layers was trained"
    whole: Any = mx.load(str(tmp_path / "none" / "model.safetensors"))
    assert not [name for name in whole if name.endswith("scales")]
    config = json.loads((tmp_path / "none" / "config.json").read_text())
    assert not config.keys() & {"quantization", "quantization_config"}
    policy = policy_of(run)
    model, _ = mlx_lm_load(str(tmp_path / "none"))
    assert np.abs(logits_of(model, policy) - logits_of(policy.model, policy)).max() < 1e-3


def test_a_checkpoint_can_be_exported(runs: Any, tmp_path: Path) -> None:
    run = runs("llama", "lora", "none")
    assert "after step 1." in exported("fuse", run, "--output", tmp_path / "one", "--checkpoint", "1")
    first, _ = mlx_lm_load(str(tmp_path / "one"))
    policy = policy_of(run)
    assert np.abs(logits_of(first, policy) - logits_of(policy.model, policy)).max() > 1e-2
    assert export("fuse", run, "--output", tmp_path / "x", "--checkpoint", "7").stderr == (
        f"error: '{run}' has no checkpoint 7. It has checkpoints of 1, 2.\n"
    )


@pytest.mark.parametrize("command", ["fuse", "gguf", "peft"])
def test_nothing_is_overwritten_and_nothing_half_written_stays(
    runs: Any, tmp_path: Path, command: str
) -> None:
    (tmp_path / "mine").write_text("mine")
    done = export(command, runs(), "--output", tmp_path / "mine")
    assert (done.exit_code, done.stderr) == (
        2,
        f"error: {tmp_path / 'mine'}: exists already. Give another --output, or remove it.\n",
    )
    assert (tmp_path / "mine").read_text() == "mine"
    done = export(command, runs(), "--output", tmp_path / "mine" / "below")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'mine' / 'below'}: cannot be written: ")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_run_that_lacks_what_it_learnt_is_named(runs: Any, tmp_path: Path) -> None:
    run = shutil.copytree(runs(), tmp_path / "run")
    (run / "adapters.safetensors").write_bytes(b"damaged")
    done = export("fuse", run, "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert f"'{run / 'adapters.safetensors'}' is damaged" in done.stderr
    (run / "adapters.safetensors").unlink()
    assert "has no adapters.safetensors" in export("fuse", run, "--output", tmp_path / "out").stderr
    assert "holds no run" in export("peft", tmp_path / "none", "--output", tmp_path / "out").stderr
    assert not (tmp_path / "out").exists()


def test_lm_studio_finds_the_model_under_publisher_and_name(runs: Any, tmp_path: Path) -> None:
    run = runs()
    exported("lmstudio", run, "--folder", tmp_path / "models")
    place = tmp_path / "models" / "prefloop" / run.name
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in place.iterdir()}
    mlx_lm_load(str(place))
    again = export("lmstudio", run, "--folder", tmp_path / "models")
    assert again.stderr == f"error: {place}: exists already. Give another --name, or remove it.\n"
    assert "must be publisher/model" in export("lmstudio", run, "--folder", tmp_path, "--name", "../x").stderr


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_adapters_add_up_to_the_fused_weights(
    runs: Any, tmp_path: Path, model_folder: ModelFolder, kind: str
) -> None:
    """By PEFT's own formulas, in NumPy."""
    run = runs("qwen3", kind)
    exported("peft", run, "--output", tmp_path / "peft")
    exported("fuse", run, "--output", tmp_path / "whole")
    about = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == str(model_folder("qwen3"))
    assert (about["r"], about["lora_alpha"], about["use_dora"]) == (4, 80.0, kind == "dora")
    assert (about["layers_to_transform"], "q_proj" in about["target_modules"]) == ([1], True)
    adapters, base, whole = (
        {name: np.array(value) for name, value in tree_flatten(mx.load(str(file)))}
        for file in (
            tmp_path / "peft" / "adapter_model.safetensors",
            model_folder("qwen3") / "model.safetensors",
            tmp_path / "whole" / "model.safetensors",
        )
    )
    names = {
        n.removeprefix("base_model.model.").removesuffix(".lora_A.weight") for n in adapters if "lora_A" in n
    }
    assert len(names) == 7
    for name in names:
        a, b = (adapters[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
        weight = base[f"{name}.weight"] + about["lora_alpha"] / about["r"] * b @ a
        if kind == "dora":
            magnitude = adapters[f"base_model.model.{name}.lora_magnitude_vector"]
            weight *= (magnitude / np.linalg.norm(weight, axis=1))[:, None]
        assert np.abs(weight - base[f"{name}.weight"]).max() > 1e-3
        np.testing.assert_allclose(weight, whole[f"{name}.weight"], atol=1e-5)


def test_a_run_without_adapters_has_none_for_peft(runs: Any, tmp_path: Path) -> None:
    done = export("peft", runs("llama", "full"), "--output", tmp_path / "peft")
    assert (done.exit_code, "export the whole model with 'prefloop export fuse'" in done.stderr) == (2, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_transformers_with_peft_computes_what_the_policy_does(
    runs: Any, tmp_path: Path, family: str, kind: str
) -> None:
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    run = runs(family, kind)
    exported("peft", run, "--output", tmp_path / "peft")
    model = peft.AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "peft"), dtype=torch.float32).eval()
    policy = policy_of(run)
    ids = torch.tensor([policy.encode(QUESTIONS[0]).tokens])
    with torch.no_grad():
        theirs = model(ids).logits[0].numpy()
        with model.disable_adapter():
            base = model(ids).logits[0].numpy()
    ours = logits_of(policy.model, policy)
    assert np.abs(base - ours).max() > 1e-2
    assert np.abs(theirs - ours).max() < 1e-4


@pytest.mark.parametrize(("family", "quantize"), [("llama", "none"), ("qwen3", "4bit")])
def test_a_gguf_file_holds_the_fused_weights_and_the_chat_template(
    runs: Any, tmp_path: Path, family: str, quantize: str
) -> None:
    gguf = pytest.importorskip("gguf")
    run = runs(family, "lora", quantize)
    exported("gguf", run, "--output", tmp_path / "sub" / "a.gguf")
    exported("fuse", run, "--output", tmp_path / "whole", "--dequantize")
    found = gguf.GGUFReader(tmp_path / "sub" / "a.gguf")
    policy = policy_of(run)
    assert found.get_field("tokenizer.chat_template").contents() == policy.tokenizer.chat_template
    assert found.get_field("tokenizer.ggml.pre").contents() == "gpt-2"
    assert found.get_field("tokenizer.ggml.eos_token_id").contents() == policy.tokenizer.eos_token_id
    whole: Any = mx.load(str(tmp_path / "whole" / "model.safetensors"))
    tensors = {tensor.name: tensor.data for tensor in found.tensors}
    assert len(tensors) == len(whole)
    down = np.array(whole["model.layers.1.mlp.down_proj.weight"])
    np.testing.assert_array_equal(tensors["blk.1.ffn_down.weight"], down)
    query = np.array(whole["model.layers.1.self_attn.q_proj.weight"])
    if family == "llama":  # llama.cpp has the two halves of a head in turn
        query = query.reshape(4, 2, 8, 64).transpose(0, 2, 1, 3).reshape(64, 64)
    np.testing.assert_array_equal(tensors["blk.1.attn_q.weight"], query)


def test_what_gguf_cannot_hold_is_refused(runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    done = export("gguf", runs("gemma"), "--output", tmp_path / "a.gguf")
    assert (done.exit_code, done.stderr) == (
        2,
        (
            "error: GGUF is written of the types llama, mistral, qwen2, qwen3, not of 'gemma'. 'prefloop "
            "export fuse --dequantize' writes a folder for llama.cpp's convert_hf_to_gguf.py, "
            "which knows more.\n"
        ),
    )
    monkeypatch.setitem(sys.modules, "gguf", None)
    done = export("gguf", runs(), "--output", tmp_path / "a.gguf")
    assert done.stderr == (
        "error: writing GGUF needs llama.cpp's package gguf: python -m pip install 'prefloop[gguf]'\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("family", "quantize"), [("llama", "none"), ("qwen3", "none"), ("qwen3", "4bit")])
def test_llama_cpp_answers_as_the_policy(runs: Any, tmp_path: Path, family: str, quantize: str) -> None:
    """Through its own tokenizer and the chat template in the file."""
    pytest.importorskip("gguf")
    xllamacpp = pytest.importorskip("xllamacpp")
    run = runs(family, "lora", quantize)
    exported("gguf", run, "--output", tmp_path / "a.gguf")
    policy = policy_of(run)
    params = xllamacpp.CommonParams()
    params.model.path = str(tmp_path / "a.gguf")
    params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
    server = xllamacpp.Server(params)
    prompts = [*map(policy.encode, QUESTIONS)]
    for prompt, answer in zip(prompts, policy.generate(prompts, GREEDY, seed=0), strict=True):
        asked = {"messages": [{"role": "user", "content": prompt.text}], "max_tokens": 12, "temperature": 0.0}
        found = server.handle_chat_completions(asked | {"chat_template_kwargs": {"enable_thinking": False}})
        assert found["usage"]["prompt_tokens"] == len(prompt.tokens)
        said = found["choices"][0]["message"]["content"]  # without the beginning of a character at its end
        assert said.strip("\ufffd ") == answer.text.strip("\ufffd ")
