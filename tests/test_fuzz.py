"""Whatever a configuration or a data file holds, it is read as it is written, or refused in words.

The default run takes a few hundred cases; ``pytest -m slow tests/test_fuzz.py -s`` takes 10,000 of hypothesis
and 27,000 of `support.mutations`, and counts.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prefloop import UserError, load_config
from prefloop.cli import main
from prefloop.config import Config, dump_config
from prefloop.config.yaml_nodes import Place, read_text
from prefloop.prompts.loading import load_prompts
from prefloop.registry import Registry
from prefloop.settings import OptimizerConfig, PromptsConfig, ScheduleConfig
from prefloop.text import printable
from support import fuzzing
from support.mutations import Mutator

REGISTRY = Registry()
CASES = {
    "trees": 800,
    "files": 1200,
    "data": 5500,
    "texts": 2500,
}
"""How many cases of each kind the long run takes; the default run takes a fortieth."""


class Bytes:
    """A tokenizer to which a text is its bytes."""

    has_chat_template = False
    bos_token: str | None = None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())


def fuzz(
    kind: str, strategy: st.SearchStrategy[Any], check: Callable[[Any], str], share: int
) -> Counter[str]:
    """Check so many cases of a strategy; what became of them. A `UserError` has something to say."""
    counts: Counter[str] = Counter()

    @settings(
        max_examples=CASES[kind] // share,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def case(drawn: Any) -> None:
        try:
            counts[check(drawn)] += 1
        except UserError as error:
            assert error.problems
            assert all(problem.strip() for problem in error.problems)
            counts["refused"] += 1

    case()
    return counts


def tree_is_read(tree: dict[str, Any]) -> str:
    """Every key that was given is in the configuration with its value, and dumping it loses nothing."""
    config = load_config(tree, registry=REGISTRY)
    assert_given(tree, config)
    return _round_trip(config)


def file_is_read(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    config = load_config(path, registry=REGISTRY)
    root, problems = read_text(content.decode("utf-8-sig"), Place("again", 1))
    assert not problems
    assert_given(root.plain, config)
    return _round_trip(config)


def _round_trip(config: Config) -> str:
    root, problems = read_text(dump_config(config), Place("dumped", 1))
    assert not problems
    assert dump_config(load_config(root.plain, registry=REGISTRY)) == dump_config(config)
    return "read"


def assert_given(given: Any, value: Any) -> None:
    """What was given, in whichever of its forms, is what the setting holds."""
    if isinstance(given, Mapping):
        for key, child in given.items():
            if key == "use" and not isinstance(value, OptimizerConfig | ScheduleConfig):
                assert name_of(value).endswith(child.split(":")[-1])
            elif isinstance(value, Mapping):
                assert_given(child, value[key])
            elif isinstance(value, tuple):  # one bonus is a list of one
                assert_given(given, value[0])
            elif hasattr(value, key):
                assert_given(child, getattr(value, key))
            else:
                assert_given(child, value.options[key])
    elif isinstance(given, list):
        assert isinstance(value, tuple | list)
        assert len(given) == len(value)
        for child, part in zip(given, value, strict=True):
            assert_given(child, part)
    elif given is None or given == "":
        assert value in (None, "", "base")
    elif isinstance(value, tuple):
        assert_given(given, value[0])
    elif isinstance(value, str | int | float):
        assert (given, isinstance(given, bool)) == (value, isinstance(value, bool))
    else:
        short = getattr(value, "shorthand", None)
        named = name_of(value).split(":")[-1]
        assert given.split(":")[-1] == named or given == getattr(value, short or "", None)


def name_of(component: object) -> str:
    """The qualified name of a component of whichever kind."""
    found = (p.qualified for p in REGISTRY.providers if p.load() is type(component))
    return next(found, "")


def data_are_read(folder: Path, drawn: tuple[str, bytes], options: dict[str, Any]) -> str:
    """A file that is read has a prompt for each of its rows, with the text that the row holds."""
    ending, content = drawn
    path = folder / f"data{ending}"
    path.write_bytes(content)
    found = load_prompts(PromptsConfig(path=str(path), **options), Bytes())
    assert found.prompts
    if ending == ".jsonl" and not options:
        lines = content.removeprefix(b"\xef\xbb\xbf").rstrip().split(b"\n")
        rows = [json.loads(line) for line in lines]
        column = "prompt" if any("prompt" in row for row in rows) else "messages"
        for row, prompt in zip(rows, found.prompts, strict=True):
            said = row[column] if isinstance(row[column], str) else row[column][-1]["content"]
            assert prompt.messages[-1]["content"] == said or isinstance(row[column], list)
    return "read"


def texts_are_read(folder: Path, rows: list[dict[str, str]]) -> str:
    """What is written in any of the formats is read back to the letter."""
    for ending, write in fuzzing.WRITERS.items():
        path = folder / f"texts{ending}"
        path.write_bytes(write(rows))
        found = load_prompts(PromptsConfig(path=str(path)), Bytes())
        assert [(p.messages[0]["content"], p.fields["answer"]) for p in found.prompts] == [
            (row["prompt"], row["answer"]) for row in rows
        ], ending
    return "read"


OPTIONS_OF_PROMPTS: list[dict[str, Any]] = [
    {},
    {"column": "answer"},
    {"limit": 1},
    {"system": "Be kind."},
    {"max_length": 5},
    {"too_long": "truncate_left", "max_length": 2},
]
OPTIONS = st.sampled_from(OPTIONS_OF_PROMPTS)
PROMPT = fuzzing.TEXT.filter(lambda text: text.strip())
WRITTEN = st.lists(st.fixed_dictionaries({"prompt": PROMPT, "answer": fuzzing.TEXT}), min_size=1, max_size=3)


def run(folder: Path, share: int) -> dict[str, Counter[str]]:
    """All kinds of cases."""
    config = folder / "c.yaml"
    for provider in REGISTRY.providers:
        provider.load()  # what it imports may draw random numbers, which a strategy must not
    return {
        "trees": fuzz("trees", fuzzing.configurations(), tree_is_read, share),
        "files": fuzz("files", fuzzing.yaml_files(), lambda c: file_is_read(config, c), share),
        "data": fuzz(
            "data",
            st.tuples(fuzzing.data_files(), OPTIONS),
            lambda d: data_are_read(folder, *d),
            share,
        ),
        "texts": fuzz("texts", WRITTEN, lambda rows: texts_are_read(folder, rows), share),
    }


def test_a_few_hundred_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, counts in run(tmp_path, share=40).items():
        assert counts["read"], f"no case of '{kind}' was right: the strategy is of no use"


@pytest.mark.slow
def test_ten_thousand_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(tmp_path, share=1)
    for kind, counts in found.items():
        print(f"{kind}: {counts.total():,} cases, {counts['read']:,} read, {counts['refused']:,} refused")
    assert sum(counts.total() for counts in found.values()) >= 10_000


CAMPAIGN = [pytest.mark.slow, pytest.mark.campaign]


def assert_said(error: UserError) -> None:
    """A few lines, none of them long, that steer no terminal."""
    assert 0 < len(error.problems) <= 21
    for problem in error.problems:
        assert problem.strip()
        assert len(problem) < 700
        assert printable(problem) == problem
        assert len(problem.splitlines()) == 1


def campaign(seeds: range, check: Callable[[Mutator], str]) -> Counter[str]:
    """What became of the case of each seed."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts[check(Mutator(seed))] += 1
        except UserError as error:
            counts["refused"] += 1
            assert_said(error)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    return counts


def mutated_configuration(file: Path, mutator: Mutator) -> str:
    content, overrides = mutator.configuration()
    if not overrides:
        return file_is_read(file, content)
    file.write_bytes(content)
    return _round_trip(load_config(file, overrides, registry=REGISTRY))


def mutated_prompts(folder: Path, mutator: Mutator) -> str:
    return data_are_read(folder, mutator.prompt_file(), mutator.dice.choice(OPTIONS_OF_PROMPTS))


def mutated_command(folder: Path, mutator: Mutator) -> str:
    """Exit code 0 or 2, with a message where it is 2: nothing but an error for people leaves a command."""
    arguments = mutator.command(folder)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code in (0, 2), (arguments, done.exception)
    if done.exit_code == 0:
        return "read"
    assert isinstance(done.exception, SystemExit), arguments
    assert done.output.strip(), arguments
    assert max(map(len, done.output.splitlines())) < 11_000, arguments
    return "refused"


def campaigns(folder: Path, share: int) -> dict[str, Counter[str]]:
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    (folder / "good.yaml").write_text(fuzzing.TEXTS[0])
    file = folder / "c.yaml"
    return {
        "configurations": campaign(range(20_000 // share), lambda m: mutated_configuration(file, m)),
        "prompt files": campaign(range(5000 // share), lambda m: mutated_prompts(folder, m)),
        "command lines": campaign(range(2000 // share), lambda m: mutated_command(folder, m)),
    }


@pytest.mark.filterwarnings("ignore::prefloop.deprecated.FormerKeyWarning")
@pytest.mark.parametrize(
    "share", [100, pytest.param(10, marks=pytest.mark.slow), pytest.param(1, marks=CAMPAIGN)]
)
def test_campaigns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, counts in campaigns(tmp_path, share).items():
        print(f"{kind}: {counts.total():,} mutated, {counts['read']:,} read, {counts['refused']:,} refused")
        assert counts["read"]
        assert counts["refused"]
