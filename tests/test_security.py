"""Data stays data: nothing that is read or that a model says is run, steers a terminal or names a path."""

from __future__ import annotations

import ast
import json
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve
from click.testing import CliRunner

from prefloop import UserError, Verdict, load_config, open_run, resume, train
from prefloop.cli import main
from prefloop.config.yaml_nodes import _CoreDumper, _CoreLoader
from prefloop.errors import StopRun
from prefloop.runs.files import discard, sweep
from prefloop.runs.run import choose_path
from prefloop.settings import ModelConfig
from prefloop.text import one_line, printable, printable_json
from prefloop_plugins.closing import closing_words
from support.small_runs import settings_for

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [p for folder in ("core", "plugins", "contrib/*/src") for p in ROOT.glob(f"{folder}/**/*.py")]
RUNS_CODE = {
    *("pickle.load", "pickle.loads", "torch.load", "np.load", "marshal.loads", "joblib.load"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "eval", "exec", "os.system"),
}
"""Calls that run what is in the data they read."""
STEERING = "\x1b[31m\x07\x08\x7f\x9b2J\x85\u202e\u2066\u200b\ue000"
"""Escape, bell, backspace, delete, two C1 controls, bidirectional overrides, invisible and private ones."""


def test_source_has_no_call_that_executes_data() -> None:
    assert len(SOURCES) > 60
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in RUNS_CODE, f"{source}:{node.lineno}"


COMMAND = re.compile(r"(?:prefloop (?:train|eval|judge|export|report|runs)|--resume|\bcd) [^\n{]*{([^}]*)}")
"""The line of a command in an f-string, and what is put into it."""


def test_commands_that_are_suggested_are_quoted_for_the_shell() -> None:
    put_in = []
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr) and "prefloop " in (text := ast.unparse(node)):
                put_in += [f"{source.name}: {found[1]}" for found in COMMAND.finditer(text)]
    bare = {name for name in put_in if "quote(" not in name and "shlex." not in name}
    assert len(put_in) > len(bare) > 0
    assert bare == {"words.py: config"}  # which is quoted where it is made


def test_a_folder_with_a_space_and_a_quote_is_quoted(tmp_path: Path) -> None:
    folder, prompts = tmp_path / "Tom's runs; ls", tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "Hello"}\n' * 4)
    changes = {
        "training": {"batch_size": 2, "iters": 1},
        "prompts": str(prompts),
        "evaluation": {"held_out": 0},
    }
    run = train(load_config(settings_for(folder, **changes)))
    words = shlex.split(closing_words(open_run(run.path)).splitlines()[-1])
    assert words[words.index("--adapter-path") + 1] == str(folder)
    with pytest.raises(UserError) as caught:
        train(load_config(settings_for(folder)))
    command = str(caught.value).rpartition("run: ")[2]
    assert shlex.split(command) == ["prefloop", "train", "--resume", str(folder)]


def test_yaml_makes_no_objects() -> None:
    assert issubclass(_CoreLoader, yaml.SafeLoader)
    assert issubclass(_CoreDumper, yaml.SafeDumper)


def test_tags_that_make_objects_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: !!python/object/apply:os.system [touch owned]\nprompts: p\njudge: human\n")
    with pytest.raises(UserError, match=r"the tag !!python/object/apply:os.system is not supported"):
        load_config(file)


def test_code_that_comes_with_a_model_is_not_trusted() -> None:
    assert ModelConfig("m").trust_remote_code is False


def test_terminal_control_characters_are_not_printed() -> None:
    assert printable(f"a{STEERING}b\tc\nd") == "a[31m2Jb\tc\nd"
    assert one_line(f"a\n{STEERING} b") == "a [31m2J b"


JOINED = {
    "Persian": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # a non-joiner inside a word
    "Devanagari": "\u0915\u094d\u200d\u0937",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "heart on fire": "\u2764\ufe0f\u200d\U0001f525",  # a variation selector and a joiner
    "rainbow flag": "\U0001f3f3\ufe0f\u200d\U0001f308",
}


@pytest.mark.parametrize("text", JOINED.values(), ids=JOINED)
def test_joined_characters_stay_joined(text: str) -> None:
    assert printable(text) == text
    assert one_line(f"a {text} b") == f"a {text} b"
    assert text in printable_json({"said": text})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u200dstart", "start"),
        ("end\u200d", "end"),
        ("two\u200d\u200cjoiners", "twojoiners"),
        ("a \u200d b\u200c\n\u200dc", "a  b\nc"),
        ("a\u200d\x1b[2J\u202eb", "a\u200d[2Jb"),
        ("\x1b\u200d\u202e", ""),
        ("\U000e0041\u200b\u2060\ufeff", ""),  # a tag, zero-width space, word joiner, byte order mark
    ],
)
def test_joiners_that_join_nothing_go_and_carry_nothing_through(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    assert json.loads(printable_json(text)) == text


def test_json_for_a_terminal_loses_nothing() -> None:
    value = {"said": f"é😀\n{STEERING}"}
    shown = printable_json(value)
    assert json.loads(shown) == value
    assert "é😀" in shown
    assert not [c for c in shown if c != "\n" and unicodedata.category(c).startswith("C")]


class Insolent:
    """A judge whose server sends what should not reach a terminal, and then hangs up."""

    def judge(self, pairs: Any) -> list[Verdict]:
        raise StopRun(f"the server said {STEERING}", failed=True)


def test_control_characters_of_a_judge_reach_neither_terminal_nor_listing(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    config = load_config(
        settings_for(path, evaluation={"held_out": 0}, training={"batch_size": 3, "iters": 2})
    )
    run = train(evolve(config, judge=Insolent()))
    shown = [closing_words(run)]
    for command in (["runs", "show", str(path)], ["runs", "list", str(path.parent)]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0
        shown.append(result.output)
    assert "the server said [31m2J" in shown[0]
    for text in shown:
        assert printable(text) == text


def test_errors_are_printed_without_control_characters(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["train", str(tmp_path / f"no{STEERING}.yaml")])
    assert result.exit_code == 2
    assert printable(result.stderr) == result.stderr


@pytest.mark.parametrize("manifest", ["[]", "{", '{"summary": 1}', '{"summary": {}, "status": []}', "\xff"])
def test_a_damaged_manifest_is_listed_as_damaged(tmp_path: Path, manifest: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_bytes(manifest.encode("latin-1"))
    result = CliRunner().invoke(main, ["runs", "list", str(tmp_path)])
    assert (result.exit_code, "damaged" in result.output) == (0, True)


@pytest.mark.parametrize("model", ["../../etc", "a/..", "/", "..", "a\\..\\b", "x\n/y z"])
def test_a_model_name_cannot_move_the_run_folder(model: str) -> None:
    config = load_config({"model": model, "prompts": "p", "judge": "human"})
    path = choose_path(config)
    assert path.parent == Path("runs")
    assert path.name not in (".", "..")


def test_cleaning_up_follows_no_symlink(tmp_path: Path) -> None:
    """Cleaning up follows no link out of the run."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("dear")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".left.tmp").symlink_to(precious)
    (run / "0000001").symlink_to(precious)
    sweep(run, re.compile("left"))
    discard(run / "0000001")
    assert not list(run.iterdir())
    assert (precious / "file").read_text() == "dear"


def test_names_in_a_ledger_or_manifest_are_never_used_as_paths(tmp_path: Path) -> None:
    """A ledger and a manifest that name other places change nothing there."""
    path = tmp_path / "run"
    run = train(load_config(settings_for(path, training={"batch_size": 3, "iters": 2})))
    rows = [json.loads(line) for line in (path / "judgements.jsonl").read_text().splitlines()]
    rows = [
        {k: "../../out" if k in ("prompt_id", "judge") else v for k, v in r.items() if k != "crc"}
        for r in rows
    ]
    (path / "judgements.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "run.json").write_text(json.dumps({**run.manifest, "path": "../out", "run": "/out"}))
    before = sorted(p for p in tmp_path.rglob("*") if path not in p.parents)
    resume(path, overrides=["training.iters=3"])
    assert sorted(p for p in tmp_path.rglob("*") if path not in p.parents) == before
