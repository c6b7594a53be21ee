"""Conversations in tokens: no text is lost, and an answer is what the template would have written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from attrs import evolve

from prefloop import Policy, Prompt, Sampling, UserError, load_config
from prefloop.config import PromptsConfig
from prefloop.embedded import local_path
from prefloop.model.limits import check_ids, embedded_ids, learned_positions, trained_length
from prefloop.prompts.chat import encode_answer, encode_prompt, end_of_turn, render
from prefloop.prompts.loading import load_prompts
from prefloop.runs.preparation import prepare
from prefloop.sampling.stops import Stops
from prefloop_plugins.judges.question import encode_question
from support.small_runs import settings_for
from support.tiny_models import ModelFolder
from support.tiny_tokenizer import CHATML, END, PAD, TURN, build_tokenizer

Chat = list[dict[str, Any]]
ASKED: Chat = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What does a cow say?"},
]
IN_PARTS = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- for part in m.content %}{%- if part.type == 'text' %}{{- part.text }}{%- endif %}{%- endfor %}"
    "{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As of models that see pictures: an element of text is no part, and nothing of it is written."""
WITHOUT_SYSTEM = CHATML.replace("messages %}", "messages if message.role != 'system' %}")
LAST_ONLY = CHATML.replace("in messages", "in messages[-1:]")


def text(tokenizer: Any, ids: Sequence[int]) -> str:
    said: str = tokenizer.decode(list(ids))
    return said


def test_contents_are_given_as_parts_where_the_template_takes_nothing_else(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path, chat_template=IN_PARTS)
    expected = "".join(f"{TURN}{m['role']}\n{m['content']}{END}\n" for m in ASKED) + f"{TURN}assistant\n"
    assert text(tokenizer, encode_prompt(tokenizer, ASKED)) == expected
    question = encode_question(tokenizer, rubric="Be just.", prompt="Cow?", first="moo", second="woof")
    assert "Be just." in text(tokenizer, question)
    assert "woof" in text(tokenizer, question)


@pytest.mark.parametrize(
    ("template", "messages", "role"),
    [
        (WITHOUT_SYSTEM, ASKED, "system"),
        (LAST_ONLY, [{"role": "user", "content": "One?"}, *ASKED[1:]], "user"),
        (LAST_ONLY, [*ASKED[1:], *ASKED[1:]], "user"),  # said twice and kept once
        (LAST_ONLY, [{"role": "assistant", "content": "<think>Hm.</think> Hello."}, *ASKED[1:]], "assistant"),
    ],
)
def test_a_template_that_leaves_out_a_turn_is_refused(
    tmp_path: Path, template: str, messages: Chat, role: str
) -> None:
    tokenizer = build_tokenizer(tmp_path / "model", chat_template=template)
    with pytest.raises(ValueError, match=f"it leaves out the text of the {role} turn"):
        encode_prompt(tokenizer, messages)
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": messages}))
    with pytest.raises(
        UserError, match=rf"p.jsonl:1 does not go through .* leaves out the text of the {role}"
    ):
        load_prompts(PromptsConfig(path=str(tmp_path / "p.jsonl")), tokenizer)


@pytest.mark.parametrize(
    ("template", "content"),
    [
        (
            CHATML.replace("message.content", "message.content.split('</think>')[-1] | trim"),
            "<think>Hm</think>\n A",
        ),
        (CHATML.replace("message.content", "message.content | tojson"), 'It says "moo"\nand {"a": 1}.'),
    ],
    ids=["thoughts are dropped", "texts become JSON"],
)
def test_what_a_template_may_do_to_a_text_is_no_loss(tmp_path: Path, template: str, content: str) -> None:
    tokenizer = build_tokenizer(tmp_path, chat_template=template)
    assert render(tokenizer, [*ASKED, {"role": "assistant", "content": content}, ASKED[1]])


def test_a_policy_refuses_a_system_prompt_that_its_template_drops(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    policy.tokenizer.chat_template = WITHOUT_SYSTEM
    with pytest.raises(
        UserError, match=r"the prompt does not go through .* leaves out the text of the system"
    ):
        policy.encode("Hi", system="Be brief.")


def framed(folder: Path, first: str | None, last: str | None) -> Any:
    """A tokenizer without chat template that puts special tokens around every text."""
    from mlx_lm.utils import load_tokenizer

    build_tokenizer(folder, chat_template=None)
    file = folder / "tokenizer.json"
    data = json.loads(file.read_text())
    ids = {token["content"]: token["id"] for token in data["added_tokens"]}
    around = [{"SpecialToken": {"id": name, "type_id": 0}} if name else None for name in (first, last)]
    single = [piece for piece in (around[0], {"Sequence": {"id": "A", "type_id": 0}}, around[1]) if piece]
    special = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (first, last) if name}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 0}}]
    data["post_processor"] = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": special,
    }
    file.write_text(json.dumps(data))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"bos_token": first}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("first", "last", "said", "expected"),
    [
        (TURN, END, "Cow?", f"{TURN}Cow?"),
        (None, END, "Cow?", "Cow?"),
        (PAD, None, "Cow?", f"{PAD}Cow?"),
        (PAD, None, f"{PAD}Q: Cow? A:", f"{PAD}Q: Cow? A:"),
        (END, END, "Cow?", f"{END}Cow?"),  # one token for both, as of gpt2
        (None, None, "Cow?", "Cow?"),
    ],
)
def test_without_a_template_a_text_begins_once_and_does_not_end(
    tmp_path: Path, first: str | None, last: str | None, said: str, expected: str
) -> None:
    tokenizer = framed(tmp_path, first, last)
    assert text(tokenizer, encode_prompt(tokenizer, [{"role": "user", "content": said}])) == expected


def test_without_a_template_the_text_of_the_system_comes_first(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path, chat_template=None)
    assert text(tokenizer, encode_prompt(tokenizer, ASKED)) == "Be brief.\n\nWhat does a cow say?"


INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def sentencepiece_like(folder: Path, scheme: str, template: str) -> Any:
    """A tokenizer that writes a space in front of words, and perhaps of the first."""
    from mlx_lm.tokenizer_utils import load
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if scheme == "legacy":
        bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        bpe.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme, split=False)
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    bpe.train_from_iterator(["moo and so on. A cow says moo."] * 4, trainer)
    fast: Any = PreTrainedTokenizerFast
    made = fast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", chat_template=template)
    made.save_pretrained(folder)
    return load(folder)


@pytest.mark.parametrize("scheme", ["first", "legacy", "never"])
@pytest.mark.parametrize("template", [INST, ZEPHYR], ids=["space", "line"])
def test_an_answer_is_what_the_template_would_have_written(
    tmp_path: Path, scheme: str, template: str
) -> None:
    tokenizer = sentencepiece_like(tmp_path, scheme, template)
    asked, answer = ASKED[1:], {"role": "assistant", "content": "moo and so on."}
    prompt = Prompt(encode_prompt(tokenizer, asked), "", tuple(asked))
    whole = tuple(tokenizer.apply_chat_template([*asked, answer]))
    ids = encode_answer(tokenizer, prompt, "moo and so on.", Stops.of(tokenizer))
    assert prompt.tokens + ids == whole
    short = Prompt(prompt.tokens[-3:], "", tuple(asked))  # a long prompt that was cut from the left
    assert encode_answer(tokenizer, short, "moo and so on.", Stops.of(tokenizer)) == ids


DROPS_THOUGHTS = CHATML.replace("message.content", "message.content.split('</think>')[-1]")


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("template", [CHATML, DROPS_THOUGHTS], ids=["kept", "dropped"])
def test_a_thought_in_an_answer_is_kept(tmp_path: Path, template: str, thinking: bool) -> None:
    tokenizer = build_tokenizer(tmp_path, chat_template=template)
    prompt = Prompt(encode_prompt(tokenizer, ASKED, thinking=thinking), "", tuple(ASKED))
    ids = encode_answer(tokenizer, prompt, "<think>\nHm.\n</think>\n\nMoo.", Stops.of(tokenizer))
    assert text(tokenizer, ids).removesuffix(f"{END}\n") == "<think>\nHm.\n</think>\n\nMoo."


OPENS_THOUGHT = CHATML.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}").replace(
    "is false", "is none"
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Moo.", "\n</think>\n\nMoo."),
        ("<think>\nHm.\n</think>\n\nMoo.", "Hm.\n</think>\n\nMoo."),
        ("Hm.\n</think>\n\nMoo.", "Hm.\n</think>\n\nMoo."),
    ],
)
def test_a_thought_that_the_prompt_opens_is_closed_before_the_answer(
    tmp_path: Path, answer: str, expected: str
) -> None:
    tokenizer = build_tokenizer(tmp_path, chat_template=OPENS_THOUGHT)
    prompt = Prompt(encode_prompt(tokenizer, ASKED), "", tuple(ASKED))
    assert text(tokenizer, prompt.tokens).endswith("<think>\n")
    ids = encode_answer(tokenizer, prompt, answer, Stops.of(tokenizer))
    assert text(tokenizer, ids).removesuffix(f"{END}\n") == expected


def test_an_answer_ends_with_the_template_s_stop_token_or_none(model_folder: ModelFolder) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    prompt, end = policy.encode("Cow?"), policy.tokenizer.convert_tokens_to_ids(END)
    moo = tuple(policy.tokenizer.encode("Moo."))
    assert policy.completion("Moo.", prompt=prompt).tokens == (*moo, end)
    policy.tokenizer.eos_token_ids = []
    assert policy.completion("Moo.", prompt=prompt).tokens == moo
    assert policy.completion("Moo.").tokens == moo
    assert policy.completion("Moo.", prompt=prompt, stop=[END]).tokens == (*moo, end)


def test_the_end_of_a_turn_is_what_the_template_writes_after_an_answer(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path / "chat")
    assert end_of_turn(tokenizer) == END
    assert end_of_turn(build_tokenizer(tmp_path / "plain", chat_template=None)) == ""


# What a model can read


def test_ids_beyond_the_embedding_are_refused(model_folder: Any) -> None:
    policy = Policy.load(str(model_folder("qwen3")))
    rows = embedded_ids(policy.model)
    assert rows == policy.model.args.vocab_size
    check_ids(policy.model, range(rows), "a prompt")
    for wrong in (rows, -1):
        with pytest.raises(
            UserError, match=f"a prompt has the token id {wrong}, and the model has embeddings"
        ):
            check_ids(policy.model, [0, wrong], "a prompt")


def test_learned_positions_are_an_end_and_computed_ones_are_not(model_folder: Any, tmp_path: Path) -> None:
    assert learned_positions(Policy.load(str(model_folder("qwen3"))).model) is None
    gpt2 = nn.Module()
    gpt2.wte, gpt2.wpe = nn.Embedding(50, 4), nn.Embedding(32, 4)
    assert (embedded_ids(gpt2), learned_positions(gpt2)) == (50, 32)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 512}}, 512),
        ({"max_position_embeddings": None}, None),
        (  # Qwen's way to stretch a model leaves its length unsaid
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        (  # Llama's says it
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"factor": 32.0, "original_max_position_embeddings": 8192},
            },
            131072,
        ),
        ({}, None),
    ],
)
def test_the_trained_length_of_a_configuration(config: dict[str, Any], length: int | None) -> None:
    assert trained_length(config) == length


def test_what_ends_no_completion_is_said_with_the_remedy(tmp_path: Path) -> None:
    """A base model whose chat template ends turns with a token that does not stop it."""
    folder = Path(shutil.copytree(local_path("embedded:policy"), tmp_path / "base"))
    for file in folder.iterdir():
        file.chmod(0o644)

    def warnings_with(eos: int, **sampler: Any) -> str:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": eos}))
        sampler = {"max_completion_length": 8, **sampler}
        settings = settings_for(tmp_path / "run", model=str(folder), sampler=sampler)
        return " ".join(prepare(load_config(settings)).plan.warnings)

    own = Policy.load("embedded:policy").tokenizer
    end = next(iter(own.eos_token_ids))
    other = next(i for text, i in own.get_added_vocab().items() if i != end)
    assert "stop" not in warnings_with(end)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"eos_token": own.decode([other])}))
    said = warnings_with(other)
    assert f"ends a turn with '{own.decode([end])}', which is no stop token" in said
    assert "stop" not in warnings_with(other, stop=[own.decode([end])])
    with pytest.raises(UserError, match=r"sampler: stop has the token id 999999"):
        warnings_with(end, stop=[999_999])
    short = warnings_with(end, max_completion_length=100_000)
    assert "texts can have 100," in short and "sampler.max_completion_length" in short


def gpt2_folder(folder: Path, positions: int) -> Path:
    """A model with learned positions, and the tokenizer of the embedded one."""
    from mlx.utils import tree_flatten
    from mlx_lm.models import gpt2

    shutil.copytree(local_path("embedded:policy"), folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = {
        "model_type": "gpt2",
        "n_ctx": positions,
        "n_positions": positions,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 1,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": size,
        "eos_token_id": 2,
    }
    model = gpt2.Model(gpt2.ModelArgs.from_dict(config))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_texts_beyond_learned_positions_are_refused_before_the_first_step(tmp_path: Path) -> None:
    model = str(gpt2_folder(tmp_path / "gpt2", positions=40))
    changes = {"model": model, "adapter": {"keys": ["attn.c_attn"], "rank": 2}}
    settings = settings_for(tmp_path / "run", **changes, sampler={"max_completion_length": 8})
    assert prepare(load_config(settings)).plan.warnings == ()
    settings["sampler"] = {"max_completion_length": 39}
    with pytest.raises(UserError, match=r"it has learned 40 positions, and prompts of up to \d+ tokens"):
        prepare(load_config(settings))


# Where completions end


@pytest.mark.parametrize("engine", [0, 2])
def test_a_text_ends_a_completion_with_the_tokens_that_complete_it(engine: int) -> None:
    policy = Policy.load("embedded:policy")
    for generator in policy._generators.values():
        generator._engines = generator._engines[engine:]
    asked = ("What does a cow say?", "Name a fruit, please.", "Where does a king live?")
    prompts = [policy.encode(text) for text in asked]
    greedy = Sampling(temperature=0.0, max_tokens=24)
    whole = policy.generate(prompts, greedy, seed=0)
    stop = whole[0].text[5:11]
    assert len(policy.tokenizer.encode(stop, add_special_tokens=False)) > 1
    ended = policy.generate(prompts, evolve(greedy, stop=(stop,)), seed=0)
    for before, after in zip(whole, ended, strict=True):
        assert after.tokens == before.tokens[: len(after.tokens)]
        if stop in before.text:
            assert after.text == before.text.partition(stop)[0] and after.stopped
            said = policy.tokenizer.decode(list(after.tokens))
            assert stop in said and stop not in policy.tokenizer.decode(list(after.tokens[:-1]))
        else:
            assert after == before
    assert ended[0].text == whole[0].text[:5]


def test_a_token_ends_a_completion_by_its_id_or_its_text() -> None:
    policy = Policy.load("embedded:policy")
    prompt = policy.encode("What does a cow say?")
    greedy = Sampling(temperature=0.0, max_tokens=24)
    (whole,) = policy.generate([prompt], greedy, seed=0)
    (ended,) = policy.generate([prompt], evolve(greedy, stop=(whole.tokens[3],)), seed=0)
    first = whole.tokens.index(whole.tokens[3])
    assert ended.tokens == whole.tokens[: first + 1] and ended.stopped
    assert ended.text == policy.tokenizer.decode(list(whole.tokens[:first]))
