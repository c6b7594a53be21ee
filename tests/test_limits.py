"""What a model cannot read is refused before the first step; what it reads badly, or never ends, is said."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from attrs import evolve
from mlx.utils import tree_flatten

from prefloop import Loop, Policy, Prompt, Sampling, UserError, load_config
from prefloop.config import AdapterConfig, TrainingConfig
from prefloop.evaluation import Evaluator
from prefloop.evaluation.evaluator import Opponent
from prefloop.model.limits import embedded_ids, learned_positions
from prefloop.model.loading import load_model
from prefloop.runs.preparation import prepare
from prefloop.sampling import Generator
from prefloop_plugins.judges.llm import LlmJudge
from prefloop_plugins.judges.rule import RuleJudge
from prefloop_plugins.samplers import PolicySampler
from support.judge_models import pair
from support.small_runs import settings_for
from support.tiny_models import FAMILIES, ModelFolder, build
from support.tiny_tokenizer import CHATML, END

POSITIONS = 32


def with_new_tokens(folder: Path, *, template: bool) -> Path:
    """A model whose tokenizer got tokens that its embedding has no rows for, in its template or beside it."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(build(folder))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|bot|>"]})
    if template:
        tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m.content }}<|bot|>{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


def gpt2(folder: Path, positions: int = POSITIONS) -> Path:
    """A model that has learned its positions."""
    build(folder)
    config = json.loads((folder / "config.json").read_text())
    config = {
        "model_type": "gpt2",
        "n_ctx": positions,
        "n_positions": positions,
        "n_embd": 64,
        "n_head": 4,
        "n_layer": 2,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": config["vocab_size"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    family = importlib.import_module("mlx_lm.models.gpt2")
    model = family.Model(family.ModelArgs.from_dict(config))
    mx.save_safetensors(
        str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())), metadata={"format": "mlx"}
    )
    return folder


def loop(policy: Policy, *prompts: Prompt, **sampler: Any) -> Loop:
    sampling = PolicySampler(**{"max_completion_length": 4, **sampler})
    training = TrainingConfig(batch_size=1, iters=1)
    return Loop(policy, prompts, judge=RuleJudge(length="shorter"), sampler=sampling, training=training)


def test_ids_outside_the_embedding_are_refused_by_loops_and_evaluations(tmp_path: Path) -> None:
    policy = Policy.load(str(with_new_tokens(tmp_path / "model", template=True)))
    rows = policy.model.model.embed_tokens.weight.shape[0]
    prompt = evolve(policy.encode("Hi"), id="p.jsonl:1")
    with pytest.raises(UserError, match=rf"^prompts: p.jsonl:1 has the token id {rows}, and"):
        loop(policy, prompt)
    with pytest.raises(UserError, match=rf"^prompts: p.jsonl:1 has the token id {rows}, and"):
        Evaluator(policy, [prompt], RuleJudge(length="shorter"), Sampling())
    assert loop(policy, Prompt((1, rows - 1), "")).steps == 1  # the last row is one
    with pytest.raises(UserError, match=rf"^sampler: stop has the token id {rows + 1}"):
        loop(policy, Prompt((1,), ""), stop=("<|bot|>",))


def test_a_file_s_answers_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    folder = with_new_tokens(tmp_path / "model", template=False)
    answers = ["moo"] * 5 + ["moo<|bot|>"] + ["moo"] * 2
    rows = [{"prompt": "Animal?", "chosen": answer, "rejected": "woof"} for answer in answers]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(
        {
            "model": str(folder),
            "prompts": str(pairs),
            "algorithm": "offline_dpo",
            "training": {"batch_size": 2, "iters": 1},
            "evaluation": {"held_out": 0},
        }
    )
    with pytest.raises(UserError, match=r"pairs.jsonl:6 the answer 'moo<\|bot\|>' has the token id"):
        prepare(config)
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows if "<" not in row["chosen"]))
    assert len(prepare(config).loop.prompts) == 7


def test_an_answer_does_not_end_with_a_stop_token_that_the_model_lacks(tmp_path: Path) -> None:
    policy = Policy.load(str(build(tmp_path / "model")))
    end, moo = policy.tokenizer.eos_token_id, tuple(policy.tokenizer.encode("Moo."))
    policy.tokenizer.eos_token_ids = [99999, end]
    assert policy.completion("Moo.").tokens == (*moo, end)
    policy.tokenizer.eos_token_ids = [99999]
    assert policy.completion("Moo.").tokens == moo


def test_positions_that_were_not_learned_are_refused(tmp_path: Path) -> None:
    policy = Policy.load(str(gpt2(tmp_path / "model")), AdapterConfig(keys=("attn.c_attn",)))
    assert learned_positions(policy.model) == POSITIONS
    prompt, rule = Prompt(tuple(range(5, 25)), ""), RuleJudge(length="shorter")
    assert loop(policy, prompt, max_completion_length=POSITIONS - 20).steps == 1
    said = rf"^model: it has learned {POSITIONS} positions, and prompts of up to 20 tokens .* 13 need 33"
    with pytest.raises(UserError, match=said):
        loop(policy, prompt, max_completion_length=POSITIONS - 19)
    with pytest.raises(UserError, match=said):
        Evaluator(policy, [prompt], rule, Sampling(max_tokens=POSITIONS - 19))
    with pytest.raises(UserError, match=rf"^judge model '.*': .* \d+ tokens before .* leave {POSITIONS}\."):
        LlmJudge(model=str(tmp_path / "model")).prepare()


def test_an_opponent_in_an_evaluation_is_checked_too(tmp_path: Path) -> None:
    policy, other = Policy.load("embedded:policy"), load_model(str(gpt2(tmp_path / "model")))
    prompts = [Prompt(tuple(range(5, 25)), "")]
    opponent = Opponent("other", Generator(other.model, other.tokenizer), prompts)
    with pytest.raises(UserError, match=f"it has learned {POSITIONS} positions"):
        Evaluator(policy, prompts, RuleJudge(length="shorter"), Sampling(max_tokens=20), opponent=opponent)


def test_a_judge_says_which_pair_it_cannot_read(tmp_path: Path) -> None:
    folder = gpt2(tmp_path / "model", positions=400)
    judge = LlmJudge(model=str(folder), min_label_mass=0.0)
    short, long = judge.judge([pair("p", "x", "y"), pair("p", "x", "word " * 200)])
    assert short.status != "error"
    assert (long.reason or "").endswith("more than 400")


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"recurrent_gemma"}))
def test_every_family_s_embedding_is_found(model_folder: ModelFolder, family: str) -> None:
    loaded = load_model(str(model_folder(family)))
    size = loaded.config.get("text_config", loaded.config)["vocab_size"]
    assert (embedded_ids(loaded.model), learned_positions(loaded.model)) == (size, None)


def notes(tmp_path: Path, **changes: Any) -> list[str]:
    config = load_config(settings_for(tmp_path / "run", **changes))
    return [note for note in prepare(config).plan.warnings if "weights are quantized" not in note]


def ending(folder: Path, own: str | None, template: str = CHATML) -> str:
    """A model with another stop token, and perhaps another template."""
    build(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"eos_token": own, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return str(folder)


def test_an_end_of_turn_in_several_tokens_is_said_too(tmp_path: Path) -> None:
    words = ending(tmp_path / "words", "<|endoftext|>", CHATML.replace(END, "[END]"))
    sampler = {"max_completion_length": 8}
    (note,) = notes(tmp_path, model=words, sampler=sampler)
    assert "ends a turn with '[END]'" in note
    assert "sampler.stop: ['[END]']" in note
    assert notes(tmp_path, model=words, sampler={**sampler, "stop": ["[END]"]}) == []
    assert notes(tmp_path, model=words, sampler={**sampler, "stop": ["other"]}) == [note]


def test_an_answer_of_a_file_ends_with_the_stop_text_that_its_template_writes(tmp_path: Path) -> None:
    words = Policy.load(ending(tmp_path / "words", "<|endoftext|>", CHATML.replace(END, "[END]")))
    prompt = words.encode("Cow?")
    answer = words.completion("Moo.", prompt=prompt, stop=["[END]"])
    assert words.tokenizer.decode(list(answer.tokens)) == "Moo.[END]"
    assert words.tokenizer.decode(list(words.completion("Moo.", prompt=prompt).tokens)) == "Moo.<|endoftext|>"
