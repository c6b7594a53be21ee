"""YAML 1.2 scalars, places, and what cannot be read."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefloop.config.yaml_nodes import Place, dump, read_file, read_text
from prefloop.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


def value(text: str) -> Any:
    node, problems = read_text(text, Place("t.yaml", 1))
    assert problems == []
    return node.plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5", 1e-5),
        ("1.0e-5", 1e-5),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("12", 12),
        ("+3", 3),
        ("010", 10),
        ("0o17", 15),
        ("0xFF", 255),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
    ],
)
def test_core_scalars(text: str, expected: Any) -> None:
    read = value(text)
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "off", "y", "2024-01-01", "1_000", "12:30", "4bit", "1e", "0b1", "e5", "-"]
)
def test_everything_else_is_text(text: str) -> None:
    assert value(f"'{text}'") == text
    if text != "-":
        assert value(text) == text


def test_nan_is_read() -> None:
    assert math.isnan(value(".nan"))


def test_aliases_and_explicit_core_tags() -> None:
    assert value("a: &x [1, 2]\nb: *x\nc: !!str 5") == {"a": [1, 2], "b": [1, 2], "c": "5"}


def test_an_emoji_that_json_escapes_is_one_character() -> None:
    text = "be \U0001f600 and \U0001f468\u200d\U0001f469"
    assert value(json.dumps({text: text})) == {text: text}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('a: "x\\ud83dy"', "t.yaml:1: a"),
        ('a: ["\\ude00\\ud83d"]', "t.yaml:1: a.0"),
        ('"\\ud83d": 1', "t.yaml:1: \ud83d"),
    ],
)  # fmt: skip
def test_half_a_character_is_refused(text: str, where: str) -> None:
    _, problems = read_text(text, Place("t.yaml", 1))
    message = "holds half a character (a lone surrogate), which no text can."
    assert list(map(str, problems)) == [f"{where}: {message}"]


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_a_line_break_that_is_none_of_yamls_is_kept_or_refused(character: str) -> None:
    escape = json.dumps(character)
    assert value(f"a: {escape}") == {"a": character}
    for text in (character, f"a{character}b\n c {character}", f"{character}\n\n{character}"):
        assert value(dump({"a": text})) == {"a": text}
    with pytest.raises(UserError) as caught:
        read_text(f"a: 1\nb: 'x{character}y'", Place("t.yaml", 1))
    message = f"t.yaml:2: has a line break that is none of YAML's: write it as {escape}."
    assert caught.value.problems == (message,)


def test_a_few_aliases_do_not_stand_for_billions() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{before}'] * 10)}]" for before, n in pairwise("abcdefghij")]
    with pytest.raises(UserError) as caught:
        read_text("\n".join(lines), Place("t.yaml", 1))
    assert str(caught.value).endswith("its aliases stand for more than 20,000 values.")


@pytest.mark.parametrize("depth", [51, 300, 10_000])
def test_deep_nesting_is_a_line(depth: int) -> None:
    for text in (f"a: {'[' * depth}{']' * depth}", '{"a":' * depth + "1" + "}" * depth):
        with pytest.raises(UserError, match=r"^t\.yaml:1: .*is nested too deeply\.$"):
            read_text(text, Place("t.yaml", 1))


def test_places_are_those_of_the_keys() -> None:
    node, _ = read_text("# note\na: 1\nb:\n  c: [1,\n    2]\n", Place("t.yaml", 1))
    assert str(node.value["a"].place) == "t.yaml:2"
    c = node.value["b"].value["c"]
    assert (str(c.place), c.path) == ("t.yaml:4", ("b", "c"))
    assert str(c.value[1].place) == "t.yaml:5"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", "t.yaml:2: a: this key is given twice, first in line 1."),
        ("x:\n  1: 2", "t.yaml:2: x: the key 1 is not text. Put it in quotes: '1'."),
        ("[a]: 2", "t.yaml:1: a key must be text."),
        ("a: !mine 2", "t.yaml:1: a: the tag !mine is not supported: write the value without it."),
        ("a: !!set {x}", "t.yaml:1: a: the tag !!set is not supported: write the value without it."),
        ("a: !!python/name:os.system ''", ("t.yaml:1: a: the tag !!python/name:os.system is not supported: "
         "write the value without it.")),
        ("a: !!int x", "t.yaml:1: a: 'x' is not what its tag !!int says."),
        ("a: &x [*x]", "t.yaml:1: a.0: an alias inside the value that it stands for."),
    ],
)  # fmt: skip
def test_problems_name_single_keys(text: str, expected: str) -> None:
    _, problems = read_text(text, Place("t.yaml", 1))
    assert list(map(str, problems)) == [expected]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "1: the file is empty. `prefloop config init` writes one to start from."),
        (b"# only a comment\n", "1: the file is empty. `prefloop config init` writes one to start from."),
        (b"\n- a\n", "2: the file must be a mapping of keys such as 'model: PATH'."),
        (b"a:\n\tb: 1\n", "2: is not valid YAML at column 1: a tab, where YAML is indented with spaces."),
        (
            b"a: [1, 2\nb: 3\n",
            (
                "2: is not valid YAML at column 2: expected ',' or ']', but got ':', "
                "while parsing a flow sequence that starts in line 1."
            ),
        ),
        (b"a: 1\n---\nb: 2\n", "2: is not valid YAML at column 1: but found another document."),
        (b"a: *nowhere\n", "1: is not valid YAML at column 4: found undefined alias 'nowhere'."),
        (b"a: 1\nb: \x07\n", "2: the character '\\x07' is not allowed."),
        (b"a: \xff\n", " is not UTF-8 text: invalid start byte at byte 3. Save the file as UTF-8."),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert caught.value.problems == (f"{path}:{expected}",)


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: there is no such file\.$"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory\.$"):
        read_file(tmp_path)


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"))
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT
    | st.sampled_from(["no", "1e-5", "0x1", "null", "~", "true", "1_0", "2024-01-01", "- a", "a: b", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_PLAIN)
def test_what_is_written_reads_back(plain: Any) -> None:
    read = value(dump({"value": plain}))["value"]
    assert read == plain
    assert repr(read) == repr(plain)
