"""`prefloop config convert`, and `prefloop train` with another tool's file, as their user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prefloop import load_config, open_run
from prefloop.cli import main
from prefloop.config import dump_config
from support.foreign_configs import FLAT, NESTED, PUBLISHED, TRL_SCRIPT, run_spec, trl_json
from support.tiny_models import ModelFolder

GIVEN = {"model.path": "Qwen/Qwen3-0.6B", "prompts.path": "online_data/train.jsonl", "judge": "Qwen/Qwen3-4B"}
"""What TRL's files leave to the program."""
SECTIONS = {"lora_parameters", "judge_config", "adapter", "optim", "train", "output"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data of mlx-lm-lora's form: train.jsonl and valid.jsonl."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "online_data"
    data.mkdir()
    for name, count in (("train", 12), ("valid", 2), ("test", 1)):
        rows = (json.dumps({"prompt": f"What does {name} animal {i} say?"}) + "\n" for i in range(count))
        (data / f"{name}.jsonl").write_text("".join(rows))
    return tmp_path


def prefloop(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


def write(text: str, name: str = "old.yaml") -> str:
    Path(name).write_text(text)
    return name


def given(file: str) -> list[str]:
    """The settings that a file of TRL does not have, as options."""
    missing = GIVEN if "config.json" in file else {"judge": GIVEN["judge"]} if "yaml" not in file else {}
    return [part for key, value in missing.items() for part in ("--set", f"{key}={value}")]


def account(text: str, *options: str, name: str = "old.yaml") -> dict[str, dict[str, Any]]:
    """What became of every key, by key."""
    done = prefloop("config", "convert", write(text, name), "--json", *options)
    assert done.exit_code == 0, done.stderr
    return {entry["key"]: entry for entry in json.loads(done.stdout)["account"]}


@pytest.mark.parametrize("what", PUBLISHED)
def test_every_key_of_a_published_file_is_in_the_account_and_the_new_file_loads(what: str) -> None:
    name, text = PUBLISHED[what]
    write(text, name)
    done = prefloop("config", "convert", name, "--output", "new.yaml", *given(name))
    assert done.exit_code == 0, done.stderr
    config = load_config("new.yaml")
    assert config.model.path == "Qwen/Qwen3-0.6B"
    assert config.prompts.path == "online_data/train.jsonl"
    entries = account(text, *given(name), name=name)
    plain = json.loads(text) if name.endswith("json") else load_plain(text)
    sections = {key for key in SECTIONS & plain.keys() if isinstance(plain[key], dict)}
    keys = {f"{key}.{inner}" for key in sections for inner in plain[key]} | plain.keys() - sections
    assert keys == {key for key, entry in entries.items() if entry["line"] is not None}
    for key, entry in entries.items():
        assert entry["settings"] or entry["note"] or entry["fate"] == "nothing to do", key
        shown = key in done.stdout
        assert shown, key


def load_plain(text: str) -> Any:
    """A file as PyYAML reads it, which is how the other tools do."""
    import yaml

    return yaml.safe_load(text)


@pytest.mark.parametrize(
    "what",
    [
        "the skill's online DPO",
        "the README's form",
        "TRL's XPOConfig",
        *(
            pytest.param(what, marks=pytest.mark.slow)
            for what in PUBLISHED
            if what not in ("the skill's online DPO", "the README's form", "TRL's XPOConfig")
        ),
    ],
)
def test_a_published_file_is_trained_with_as_it_is(what: str, model_folder: ModelFolder) -> None:
    name, text = PUBLISHED[what]
    write(text, name)
    options = {
        "model.path": model_folder("qwen3"),
        "prompts.path": "online_data/train.jsonl",
        "judge": "{use: rule, length: shorter}",
        "sampler.max_completion_length": 4,
        "output": "run",
        "evaluation.held_out": 1,
    }
    settings = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    length = "training.epochs=0.8" if "epochs: 2" in text else "training.iters=3"
    done = prefloop("train", name, *settings, "--set", length)
    assert done.exit_code == 0, done.stderr
    assert f"{name} is a configuration of " in done.stderr.splitlines()[0]
    run = open_run(Path("run"))
    assert run.status == "finished"
    kept = load_config("run/config.yaml")  # the converted one, as any run keeps its own
    assert kept.model.path == str(model_folder("qwen3"))
    converted = prefloop("config", "convert", name, "--output", "new.yaml", *settings, "--set", length)
    assert converted.exit_code == 0, converted.stderr
    assert dump_config(load_config("new.yaml")) == dump_config(kept)


def test_the_account_says_what_is_not_honoured_and_what_was_ignored() -> None:
    text = FLAT["the README's online DPO, as a file"] + "temperature: 0.7\ngroup_size: 8\nwandb: mine\n"
    done = prefloop("config", "convert", write(text), "--output", "new.yaml")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    ignores = "mlx-lm-lora ignores this key in a file: it runs with 1.0."
    assert f"  temperature: 0.7 -> sampler.temperature: 0.7. {ignores}" in lines
    before, after = (lines.index(f"{h}:") for h in ("Not honoured", "Ignored by mlx-lm-lora too"))
    assert any(line.startswith("  wandb: mine: ") for line in lines[before:after])
    assert "  group_size: 8: Only other train modes read it." in lines[after:]
    assert "  alpha: 2e-05: Only train_mode: xpo has it." in lines[after:]
    assert lines[-1] == "Wrote new.yaml."
    page = Path("new.yaml").read_text()
    assert page.startswith("# Converted from old.yaml, a configuration of mlx-lm-lora.\n")
    assert "# wandb: not honoured. " in page


def test_train_says_in_short_lines_what_differs() -> None:
    text = FLAT["the skill's online DPO"] + "wandb: mine\n"
    done = prefloop("train", write(text), "--set", "model=./nowhere", "--set", "judge=human")
    first, *more, last = done.stderr.splitlines()
    assert first == (
        "old.yaml is a configuration of mlx-lm-lora, converted for this run. What became of each key: "
        "prefloop config convert old.yaml"
    )
    assert done.exit_code == 2 and last.startswith("error: model './nowhere': there is no such folder.")
    assert [line.split(":")[0].strip() for line in more] == [
        *("dpo_cpo_loss_type", "delta", "temperature", "max_completion_length"),
        *("gradient_accumulation_steps", "wandb", "fuse"),
    ]
    assert "  delta: holds here. mlx-lm-lora ignores this key in a file: it runs with 50.0." in more


def test_the_file_goes_to_standard_output_and_the_account_beside_it() -> None:
    done = prefloop("config", "convert", write(FLAT["a long XPO"]))
    assert done.exit_code == 0
    Path("new.yaml").write_text(done.stdout)
    assert load_config("new.yaml").adapter.rank == 4
    assert done.stderr.startswith("old.yaml is a configuration of mlx-lm-lora.\nBecame:\n")


def test_validate_and_show_take_such_a_file_too() -> None:
    name = write(FLAT["a long XPO"])
    assert prefloop("config", "validate", name).stdout == "old.yaml: OK\n"
    assert "use: prefloop:xpo" in prefloop("config", "show", name).stdout


OTHER_MODE = (
    "old.yaml:3: train_mode: prefloop does online preference optimisation, train_mode: online_dpo or "
    "xpo, not 'grpo'."
)
MIXED = (
    "old.yaml: mixes two configurations: 'prompts' (line 2) is a key of prefloop, 'train_mode' (line 3) "
    "one of mlx-lm-lora. Keep the keys of one of them; `prefloop config convert` makes prefloop's of the "
    "other."
)
MISTAKES = {
    "a misspelt key": (
        FLAT["the README's online DPO, as a file"].replace("judge:", "juge:"),
        "old.yaml:5: juge: mlx-lm-lora has no such key. Did you mean 'judge'?",
    ),
    "a misspelt key of a section": (
        NESTED["the README's form"].replace("schedule:", "shedule:"),
        "old.yaml:15: optim.shedule: MLX LoRA Studio has no such key. Did you mean 'optim.schedule'?",
    ),
    "a misspelt key of TRL": (
        TRL_SCRIPT.replace("max_new_tokens", "max_new_token"),
        "old.yaml:9: max_new_token: TRL has no such key. Did you mean 'max_new_tokens'?",
    ),
    "another train mode": (
        FLAT["the README's online DPO, as a file"].replace("online_dpo\n", "grpo\n"),
        OTHER_MODE,
    ),
    "no train mode": (
        "model: Qwen/Qwen3-0.6B\ntrain_type: lora\njudge: human\ndata: ./online_data\n",
        "old.yaml: train_mode is missing, which means sft: prefloop does online_dpo and xpo.",
    ),
    "no judge": (
        "model: Qwen/Qwen3-0.6B\ntrain_mode: xpo\njudge_system: Be strict.\ndata: ./online_data\n",
        "old.yaml: judge is missing: name a model or human, or give --set judge=MODEL.",
    ),
    "keys of both": (
        "model: Qwen/Qwen3-0.6B\nprompts: online_data/train.jsonl\ntrain_mode: xpo\njudge: human\n",
        MIXED,
    ),
    "a value of the wrong type": (
        FLAT["the README's online DPO, as a file"] + "iters: ten\n",
        "old.yaml:7: training.iters: must be a whole number, not the text 'ten'.",
    ),
    "an unknown loss": (
        FLAT["the README's online DPO, as a file"] + "dpo_cpo_loss_type: hing\n",
        "old.yaml:7: loss.use: there is no loss 'hing'. Did you mean 'hinge'?",
    ),
    "a key given twice": (
        FLAT["the README's online DPO, as a file"] + "judge: human\n",
        "old.yaml:7: judge: this key is given twice, first in line 5.",
    ),
}


@pytest.mark.parametrize("command", [["config", "convert", "--output", "new.yaml"], ["train"]], ids=" ".join)
@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_clear_line(what: str, command: list[str]) -> None:
    text, says = MISTAKES[what]
    before = {*Path().iterdir(), Path("old.yaml")}
    done = prefloop(*command, write(text))
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.exit_code, errors) == (2, [f"error: {says}"])
    assert {*Path().iterdir()} == before


def test_what_trl_leaves_to_the_program_is_asked_for() -> None:
    done = prefloop("config", "convert", write(trl_json(), "config.json"))
    assert done.exit_code == 2
    assert [line.split("give ")[1] for line in done.stderr.splitlines()] == [
        "--set model.path=MODEL.",
        "--set prompts.path=FILE_OR_ID.",
        "--set judge=MODEL.",
    ]


def test_a_file_of_no_known_tool_is_refused_and_ours_is_left_alone() -> None:
    done = prefloop("config", "convert", write("model: m\nprompts: p\njudge: human\n"))
    says = "old.yaml: has no key that marks a configuration of TRL, MLX LoRA Studio or mlx-lm-lora."
    assert (done.exit_code, done.stderr) == (2, f"error: {says}\n")
    done = prefloop("train", write("model: m\nprompts: p\nbeta: 0.2\n"))
    assert done.stderr == "error: old.yaml:3: beta: there is no such option. Did you mean 'loss.beta'?\n"


def test_the_example_on_the_page_is_what_is_printed() -> None:
    page = (Path(__file__).parent.parent / "docs" / "migrating.md").read_text("utf-8")
    blocks = re.findall(r"^```(?:yml|text)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    old, shown = blocks
    done = prefloop("config", "convert", write(old))
    assert done.exit_code == 0
    assert set(shown.splitlines()) <= set(done.stderr.splitlines())


def test_an_existing_file_is_not_overwritten() -> None:
    Path("new.yaml").write_text("mine")
    done = prefloop("config", "convert", write(FLAT["a long XPO"]), "--output", "new.yaml")
    assert done.exit_code == 2
    assert Path("new.yaml").read_text() == "mine"


def test_without_the_bundled_plugins_nothing_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLOOP_DISABLE", "prefloop")
    done = prefloop("config", "validate", write(FLAT["a long XPO"]))
    assert done.exit_code == 2
    assert "error: old.yaml:5: train_mode: there is no such option." in done.stderr


def test_a_run_of_studio_had_the_keys_that_a_file_of_mlx_lm_lora_has_not() -> None:
    there = account(run_spec(), name="run_spec.json")
    assert there["max_completion_length"]["ran_with"] == ""
    assert there["judge_system"]["ran_with"].startswith("mlx-lm-lora does not read it")
