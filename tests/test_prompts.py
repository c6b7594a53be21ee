"""Prompts from files, folders and the Hub: what is read, what is encoded, and what is refused."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefloop import embedded
from prefloop.errors import UserError
from prefloop.prompts.loading import PromptSet, load_prompts
from prefloop.settings import PromptsConfig
from support.tiny_tokenizer import CHATML, build_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    Load = Callable[..., PromptSet]

COW = "What does a cow say?"
CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": COW},
    {"role": "assistant", "content": "Moo."},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def load(tokenizer: Any) -> Load:
    def load(path: str, **options: Any) -> PromptSet:
        keep = options.pop("keep", ())
        return load_prompts(PromptsConfig(path=path, **options), tokenizer, keep=keep)

    return load


@pytest.fixture
def refuse(load: Load) -> Callable[..., tuple[str, ...]]:
    """The lines that a person reads when the prompts cannot be loaded."""

    def refuse(path: str, **options: Any) -> tuple[str, ...]:
        with pytest.raises(UserError) as caught:
            load(path, **options)
        return caught.value.problems

    return refuse


def write(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# What is read


def test_text_becomes_a_user_turn_of_the_chat_template(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    write(tmp_path / "data/p.jsonl", {"prompt": COW, "answer": "moo", "tags": ["a", {"n": 1}]})
    found = load("data/p.jsonl")
    (prompt,) = found.prompts
    assert (found.dropped, found.cut, found.source) == (0, 0, "data/p.jsonl")
    assert tokenizer.decode(list(prompt.tokens)) == (
        f"<|im_start|>user\n{COW}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert (prompt.text, prompt.id) == (COW, "p.jsonl:1")
    assert prompt.messages == ({"role": "user", "content": COW},)
    assert prompt.fields == {"answer": "moo", "tags": ["a", {"n": 1}]}


def test_thinking_is_off_unless_asked_for(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    write(tmp_path / "p.jsonl", {"prompt": COW})
    thinking = load("p.jsonl", thinking=True).prompts[0].tokens
    assert tokenizer.decode(list(thinking)).endswith("<|im_start|>assistant\n")
    assert thinking != load("p.jsonl").prompts[0].tokens


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_a_conversation_ends_with_its_last_user_turn(tmp_path: Path, load: Load, column: str) -> None:
    write(tmp_path / "p.jsonl", {column: CHAT})
    (prompt,) = load("p.jsonl").prompts
    assert prompt.messages == tuple(CHAT[:3])
    assert prompt.text == f"User: Hi\n\nAssistant: Hello!\n\nUser: {COW}"


def test_prompt_comes_before_messages_and_a_configured_column_before_both(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "p.jsonl", {"messages": CHAT, "prompt": "one", "question": "two"})
    assert load("p.jsonl").prompts[0].text == "one"
    chosen = load("p.jsonl", column="question").prompts[0]
    assert chosen.text == "two"
    assert set(chosen.fields) == {"messages", "prompt"}


def test_a_row_s_own_system_message_wins(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    own = [{"role": "system", "content": "Be blunt."}, {"role": "user", "content": COW}]
    write(tmp_path / "p.jsonl", {"prompt": COW}, {"prompt": own})
    first, second = load("p.jsonl", system="Be warm.").prompts
    assert [m["content"] for m in first.messages] == ["Be warm.", COW]
    assert [m["content"] for m in second.messages] == ["Be blunt.", COW]
    assert "<|im_start|>system\nBe warm.<|im_end|>" in tokenizer.decode(list(first.tokens))
    assert first.text == second.text == COW


def test_null_keys_of_messages_are_left_out(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "p.jsonl", {"prompt": [{"role": "user", "content": COW, "tool_calls": None}]})
    assert load("p.jsonl").prompts[0].messages == ({"role": "user", "content": COW},)


def test_a_model_without_chat_template_reads_plain_text(tmp_path: Path) -> None:
    plain = build_tokenizer(tmp_path / "plain", chat_template=None)
    write(tmp_path / "p.jsonl", {"prompt": COW}, {"prompt": CHAT})
    one, several = load_prompts(PromptsConfig(path="p.jsonl", system="Be warm."), plain).prompts
    assert plain.decode(list(one.tokens)) == f"Be warm.\n\n{COW}"
    assert plain.decode(list(several.tokens)) == f"Be warm.\n\n{several.text}"


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": "b"}\n\n \n', [":1", ":2"]),
        ("p.jsonl", '\ufeff{"prompt": "a"}\r\n{"prompt": "b"}', [":1", ":2"]),
        ("p.json", '[{"prompt": "a"},\n {"prompt": "b"}]', ["[0]", "[1]"]),
        ("p.json", '{"prompt": "a"}\n{"prompt": "b"}\n', [":1", ":2"]),
        ("P.CSV", '\ufeffid,prompt\r\n1,a\r\n2,"b"\r\n\r\n', [":2", ":3"]),
        ("p.tsv", "id\tprompt\n1\ta\n2\tb\n", [":2", ":3"]),
    ],
)
def test_each_text_format_numbers_rows_by_line(
    tmp_path: Path, load: Load, name: str, content: str, places: list[str]
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    found = load(name).prompts
    assert [p.text for p in found] == ["a", "b"]
    assert [p.id for p in found] == [name + place for place in places]


def test_csv_values_stay_text_and_may_span_lines(tmp_path: Path, load: Load) -> None:
    (tmp_path / "p.csv").write_text('prompt,answer\n"two\nlines, one prompt",007\n42,no\n')
    first, second = load("p.csv").prompts
    assert (first.text, first.fields, first.id) == ("two\nlines, one prompt", {"answer": "007"}, "p.csv:2")
    assert (second.text, second.id) == ("42", "p.csv:4")


def test_a_pretty_printed_object_is_one_row(tmp_path: Path, load: Load) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"prompt": COW}, indent=2))
    assert [p.text for p in load("p.json").prompts] == [COW]


def test_limit_takes_the_first_rows(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "p.jsonl", *({"prompt": f"number {i}"} for i in range(9)))
    assert [p.text for p in load("p.jsonl", limit=2).prompts] == ["number 0", "number 1"]
    write(tmp_path / "folder/p.jsonl", *({"prompt": f"number {i}"} for i in range(9)))
    assert len(load("folder", limit=3).prompts) == 3


def test_parquet_is_read_with_dates_as_text(tmp_path: Path, load: Load) -> None:
    from datetime import date

    from datasets import Dataset

    rows = [{"prompt": COW, "day": date(2025, 1, 2), "n": 3}, {"prompt": "b", "day": None, "n": 4}]
    Dataset.from_list(rows).to_parquet(str(tmp_path / "p[1].parquet"))
    first, second = load("p[1].parquet").prompts
    assert (first.text, first.id) == (COW, "p[1].parquet[0]")
    assert first.fields == {"day": "2025-01-02", "n": 3}
    assert second.fields == {"day": None, "n": 4}


def test_a_folder_has_splits_and_is_read_afresh(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "data/train.jsonl", {"prompt": "a"}, {"messages": CHAT, "prompt": "b"})
    write(tmp_path / "data/test.jsonl", {"prompt": "c"})
    assert [(p.text, p.id) for p in load("data").prompts] == [("a", "data[0]"), ("b", "data[1]")]
    assert [p.text for p in load("data", split="test").prompts] == ["c"]
    before = (tmp_path / "data/test.jsonl").stat()
    write(tmp_path / "data/test.jsonl", {"prompt": "d"})
    os.utime(tmp_path / "data/test.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [p.text for p in load("data", split="test").prompts] == ["d"]


def test_a_folder_written_by_save_to_disk_is_read(tmp_path: Path, load: Load) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list([{"prompt": "a"}])
    rows.save_to_disk(tmp_path / "one")
    DatasetDict({"test": rows}).save_to_disk(tmp_path / "several")
    assert [p.text for p in load("one").prompts] == ["a"]
    assert [p.text for p in load("several", split="test").prompts] == ["a"]


def test_local_data_leave_no_cache_no_bars_and_no_changed_settings(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    level, bars_off = logging.getLogger("datasets").level, datasets.are_progress_bars_disabled()
    write(tmp_path / "data/train.jsonl", {"prompt": "a"})
    datasets.Dataset.from_list([{"prompt": "a"}]).save_to_disk(tmp_path / "saved")
    capfd.readouterr()
    for path in ("data", "data/train.jsonl", "saved"):
        load(path)
    assert capfd.readouterr() == ("", "")
    assert not cache.exists()
    assert logging.getLogger("datasets").level == level
    assert datasets.are_progress_bars_disabled() == bars_off


def test_media_columns_are_not_decoded(tmp_path: Path, load: Load) -> None:
    from datasets import Dataset, DatasetInfo, Features, Image, Value

    pyarrow = pytest.importorskip("pyarrow")
    # As a table, because encoding one as an image needs a library that this project does without.
    table = pyarrow.Table.from_pylist([{"prompt": "a", "picture": {"bytes": b"no picture", "path": None}}])
    features = Features({"prompt": Value("string"), "picture": Image()})
    table = table.cast(features.arrow_schema)
    Dataset(table, info=DatasetInfo(features=features)).save_to_disk(tmp_path / "saved")
    assert load("saved").prompts[0].fields == {}


# Prompts that are too long


def test_long_prompts_are_dropped_and_counted(tmp_path: Path, load: Load, tokenizer: Any) -> None:
    write(tmp_path / "p.jsonl", {"prompt": "x" * 50}, {"prompt": "a"}, {"prompt": "y" * 60})
    length = len(load("p.jsonl").prompts[1].tokens)
    found = load("p.jsonl", max_length=length)
    assert [p.text for p in found.prompts] == ["a"]
    assert (found.dropped, found.cut) == (2, 0)


def test_long_prompts_may_be_cut_from_the_left(tmp_path: Path, load: Load) -> None:
    write(tmp_path / "p.jsonl", {"prompt": "x" * 50 + "end"}, {"prompt": "a"})
    long, short = load("p.jsonl").prompts
    limit = len(short.tokens)
    found = load("p.jsonl", max_length=limit, too_long="truncate_left")
    assert [p.tokens for p in found.prompts] == [long.tokens[-limit:], short.tokens]
    assert found.prompts[0].text == "x" * 50 + "end"
    assert (found.dropped, found.cut) == (0, 1)


def test_a_data_set_with_no_prompt_left_is_refused(tmp_path: Path, load: Load, refuse: Any) -> None:
    write(tmp_path / "p.jsonl", {"prompt": "abcdef"}, {"prompt": "x" * 50})
    shortest = len(load("p.jsonl").prompts[0].tokens)
    assert refuse("p.jsonl", max_length=4) == (
        (
            "p.jsonl: all 2 prompts are longer than prompts.max_length, 4 tokens; the shortest has "
            f"{shortest}. Raise it, or set prompts.too_long: truncate_left."
        ),
    )


# Bad rows: each names its line

LIST_OR_TEXT = "not text or a list of messages"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"prompt": null}', f"has null as its 'prompt', {LIST_OR_TEXT}"),
        ('{"prompt": 3}', f"has a number as its 'prompt', {LIST_OR_TEXT}"),
        ('{"prompt": true}', f"has true or false as its 'prompt', {LIST_OR_TEXT}"),
        ('{"prompt": {"a": 1}}', f"has an object as its 'prompt', {LIST_OR_TEXT}"),
        ('{"prompt": ""}', "has an empty text as its 'prompt'"),
        ('{"prompt": " \\n"}', "has an empty text as its 'prompt'"),
        ('{"prompt": "\\ud83d"}', "has half a character (a lone surrogate) in message 1 of its 'prompt'"),
        ('{"prompt": []}', "has an empty list as its 'prompt'"),
        (
            '{"prompt": ["hello"]}',
            "has text as message 1 of its 'prompt', not an object with 'role' and 'content'",
        ),
        ('{"prompt": [{"content": "a"}]}', "has no 'role' in message 1 of its 'prompt'"),
        (
            '{"prompt": [{"role": "user", "content": "a"}, {"role": "user"}]}',
            "has no 'content' in message 2 of its 'prompt'",
        ),
        (
            '{"prompt": [{"role": "user", "content": null}]}',
            "has null as 'content' in message 1 of its 'prompt', not text",
        ),
        ('{"prompt": [{"role": "assistant", "content": "a"}]}', "has no user message in its 'prompt'"),
        ('{"promt": "a"}', "has no 'prompt'"),
        ("", "is a blank line"),
        ('{"prompt": "a"', "is broken JSON: Expecting ',' delimiter (column 15)"),
        ("[1]", 'is a list, not an object like {"prompt": "…"}'),
        ("null", 'is null, not an object like {"prompt": "…"}'),
    ],
)
def test_a_bad_row_is_reported_in_one_line(tmp_path: Path, refuse: Any, line: str, problem: str) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "good"}\n' + line + '\n{"prompt": "good"}\n')
    assert refuse("p.jsonl") == (f"p.jsonl:2 {problem}",)


def test_bytes_that_are_no_utf8_are_named(tmp_path: Path, refuse: Any) -> None:
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n')
    (tmp_path / "p.csv").write_bytes(b"prompt\na\ncaf\xe9\n")
    (tmp_path / "p.json").write_bytes(b'[{"prompt": "caf\xe9"}]')
    problem = "is not UTF-8 text (byte 0xe9): save the file as UTF-8"
    assert refuse("p.jsonl") == (f"p.jsonl:2 {problem}",)
    assert refuse("p.csv") == (f"p.csv:3 {problem}",)
    assert refuse("p.json") == (f"p.json:1 {problem}",)


def test_the_first_bad_rows_are_reported_together(tmp_path: Path, refuse: Any) -> None:
    write(tmp_path / "d/p.jsonl", {"prompt": "good"}, *({"prompt": None} for _ in range(8)))
    lines = refuse("d/p.jsonl")
    assert [line.split(" ")[0] for line in lines[:5]] == [f"d/p.jsonl:{n}" for n in range(2, 7)]
    assert lines[5:] == ("… and 3 more",)


def test_a_chat_template_s_refusal_names_the_row_and_the_reason(tmp_path: Path) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role.') }}{% endif %}"
    gemma = build_tokenizer(tmp_path / "gemma", chat_template=strict + CHATML)
    write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": [{"role": "system", "content": "b"}, CHAT[0]]})
    with pytest.raises(UserError) as caught:
        load_prompts(PromptsConfig(path="p.jsonl"), gemma)
    assert caught.value.problems == (
        "p.jsonl:2 does not go through the model's chat template: No system role.",
    )


def test_rows_of_folders_are_named_by_index(tmp_path: Path, refuse: Any) -> None:
    write(tmp_path / "data/p.jsonl", {"prompt": "a"}, {"prompt": None})
    assert refuse("data") == (f"data[1] has null as its 'prompt', {LIST_OR_TEXT}",)


# Bad files and columns


def test_a_missing_column_names_those_that_are_there(tmp_path: Path, refuse: Any) -> None:
    write(tmp_path / "p.jsonl", {"prompts": "a", "n": 1}, {"chosen": "b"})
    assert refuse("p.jsonl") == (
        (
            "p.jsonl has no column 'prompt' or 'messages'; it has 'prompts', 'n', 'chosen'. "
            "Did you mean 'prompts'? Name the column that holds the prompts in prompts.column."
        ),
    )
    assert refuse("p.jsonl", column="question") == (
        "p.jsonl has no column 'question'; it has 'prompts', 'n', 'chosen'.",
    )


def test_columns_to_keep_must_be_there(tmp_path: Path, load: Load, refuse: Any) -> None:
    write(tmp_path / "p.jsonl", {"prompt": "a", "answer": "b"}, {"prompt": "c"})
    assert refuse("p.jsonl", keep=["answer"]) == ("p.jsonl:2 has no 'answer'",)
    assert refuse("p.jsonl", keep=["answers"]) == (
        (
            "p.jsonl has no column 'answers', which this run reads beside 'prompt'; "
            "it has 'prompt', 'answer'. Did you mean 'answer'?"
        ),
    )
    assert load("p.jsonl", limit=1, keep=["answer"]).prompts[0].fields == {"answer": "b"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("1,a\n2,b\n", ("p.csv has no column 'prompt' or 'messages'; it has '1', 'a'. Name the column that "
         "holds the prompts in prompts.column. The first line of such a file names its columns.")),
        ("id,prompt\n1,a,b\n", "p.csv:2 has 3 values where the header has 2"),
        ("id,prompt\n1\n", "p.csv:2 has 1 values where the header has 2"),
        ("prompt\na\n\nb\n", "p.csv:3 is a blank line"),
        ("prompt\na\n\"\"\n", "p.csv:3 has an empty text as its 'prompt'"),
        ("prompt,prompt\na,b\n", "p.csv:1 must name every column of the CSV file, each once"),
        ("prompt,\na,b\n", "p.csv:1 must name every column of the CSV file, each once"),
        ('prompt\n"never closed\n', "p.csv:2 is broken CSV: unexpected end of data"),
        ("prompt\n", "p.csv is empty: it holds no rows"),
    ],
)  # fmt: skip
def test_bad_csv_is_refused(tmp_path: Path, refuse: Any, content: str, problem: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    assert refuse("p.csv") == (problem,)


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path: Path, refuse: Any, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    if name == "p.csv" and content:
        assert refuse(name) == ("p.csv:1 must name every column of the CSV file, each once",)
    else:
        assert refuse(name) == (f"{name} is empty: it holds no rows",)


def test_a_broken_json_list_names_its_line(tmp_path: Path, refuse: Any) -> None:
    (tmp_path / "p.json").write_text('[{"prompt": "a"},\n {"prompt": }]')
    assert refuse("p.json") == ("p.json:2 is broken JSON: Expecting value (column 13)",)
    (tmp_path / "p.json").write_text("[]")
    assert refuse("p.json") == ("p.json is empty: it holds no rows",)


def test_broken_parquet_is_refused(tmp_path: Path, refuse: Any) -> None:
    (tmp_path / "p.parquet").write_text("nope")
    (line,) = refuse("p.parquet")
    assert line.startswith("p.parquet cannot be read as Parquet: Parquet file size is 4 bytes")


def test_an_unreadable_file_is_refused(tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("prefloop.prompts.rows.rows_of_file", denied)
    write(tmp_path / "p.jsonl", {"prompt": "a"})
    assert refuse("p.jsonl") == ("p.jsonl cannot be read: Permission denied",)


def test_other_endings_are_refused(tmp_path: Path, refuse: Any) -> None:
    (tmp_path / "p.xlsx").write_text("a")
    assert refuse("p.xlsx") == (
        "p.xlsx has none of the endings that are read: .csv, .json, .jsonl, .parquet, .tsv",
    )


def test_a_missing_file_is_named(tmp_path: Path, refuse: Any) -> None:
    write(tmp_path / "data/prompts.jsonl", {"prompt": "a"})
    assert refuse("data/promts.jsonl") == (
        (
            "there is no file or folder 'data/promts.jsonl', and it is no Hub id of the form owner/name. "
            "Did you mean 'prompts.jsonl'?"
        ),
    )
    assert refuse("date/prompts.jsonl") == (
        "there is no file or folder 'date/prompts.jsonl': there is not even a folder 'date'",
    )
    assert refuse("daata") == (
        (
            "there is no file or folder 'daata', and it is no Hub id of the form owner/name. "
            "Did you mean 'data'?"
        ),
    )


def test_a_file_has_one_split_and_no_configurations(tmp_path: Path, refuse: Any) -> None:
    write(tmp_path / "p.jsonl", {"prompt": "a"})
    assert refuse("p.jsonl", split="test") == (
        "prompts.split: p.jsonl is one file and has only the split 'train'",
    )
    assert refuse("p.jsonl", name="main") == (
        "prompts.name: p.jsonl is a file and has no configuration 'main'",
    )


def test_folders_that_hold_no_data_set_are_refused(tmp_path: Path, refuse: Any) -> None:
    write(tmp_path / "data/train.jsonl", {"prompt": "a"})
    assert refuse("data", split="tset") == ("prompts.split: data has no split 'tset'; it has 'train'",)
    assert refuse("data", name="main") == (
        (
            "no data set can be read from the folder data: BuilderConfig 'main' not found. "
            "Available: ['default']"
        ),
    )
    (tmp_path / "none").mkdir()
    (line,) = refuse("none")
    assert line.startswith("no data set can be read from the folder none: ")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.jsonl").write_text('{"prompt": "a"}\n{"prompt":\n')
    (line,) = refuse("broken")
    assert "JSON parse error" in line
    (tmp_path / "data").rename(tmp_path / "data[1]")
    assert refuse("data[1]") == (
        "data[1]: rename the folder, since *, ? and [ in its path read as a pattern",
    )


# The Hub, which tests cannot reach


def stand_in(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(*arguments: Any) -> Any:
        asked.append(arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked


def test_a_hub_data_set_is_read(load: Load, refuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset, DatasetDict

    asked = stand_in(monkeypatch, DatasetDict({"train": Dataset.from_list([{"prompt": "a"}])}))
    found = load("owner/name", name="main")
    assert asked == [("owner/name", "main")]
    assert [(p.text, p.id) for p in found.prompts] == [("a", "owner/name[0]")]
    assert refuse("owner/name", split="test") == (
        "prompts.split: owner/name has no split 'test'; it has 'train'",
    )


def test_what_exists_here_comes_before_the_hub(
    tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stand_in(monkeypatch, ConnectionError())
    write(tmp_path / "owner/name.jsonl", {"prompt": "a"})
    assert load("owner/name.jsonl").prompts[0].text == "a"
    assert not asked


def test_an_unreachable_hub_is_reported(tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "owner/names").mkdir(parents=True)
    (line,) = refuse("owner/name")
    assert line.startswith(
        "'owner/name' is no file or folder here, and the Hugging Face Hub cannot be reached to look for a "
        "data set of that name: "
    )
    assert line.endswith(". Connect, or give a local file or folder. Did you mean 'names'?")


def test_a_data_set_that_the_hub_lacks_or_cannot_load_is_reported(
    refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.exceptions import DatasetNotFoundError

    stand_in(monkeypatch, DatasetNotFoundError("Dataset 'owner/name' doesn't exist on the Hub.\nmore"))
    assert refuse("owner/name") == (
        (
            "'owner/name' is no file or folder here, and not on the Hub either: Dataset 'owner/name' doesn't "
            "exist on the Hub."
        ),
    )
    stand_in(monkeypatch, ValueError("Config name is missing.\nPlease pick one."))
    assert refuse("owner/name") == ("the data set 'owner/name' cannot be loaded: Config name is missing",)


# What ships with the package


def test_embedded_names_stand_for_paths() -> None:
    assert embedded.resolve("mine/policy") == "mine/policy"
    for name, file in embedded.FILES.items():
        path = Path(embedded.resolve(f"embedded:{name}"))
        assert path.is_absolute()
        assert path.parts[-3:] == ("prefloop", "embedded", file)
    with pytest.raises(UserError, match=r"'embedded:polcy'\. Did you mean 'embedded:policy'\?"):
        embedded.resolve("embedded:polcy")


@pytest.mark.parametrize("name", ["prompts", "held_out"])
def test_embedded_prompts_load(load: Load, name: str) -> None:
    found = load(f"embedded:{name}")
    assert found.source == f"embedded:{name}"
    assert found.prompts[0].id == f"{name}.jsonl:1"
    assert all(p.text and p.fields["answer"] for p in found.prompts)
