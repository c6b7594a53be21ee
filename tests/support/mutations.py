# ruff: noqa: E501 (tables of what is thrown at prefloop)
"""Nasty changes to configurations, prompt files and command lines, drawn from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

from prefloop.config.yaml_nodes import dump
from support import fuzzing

TEXTS: list[str] = [
    "", " ", "\t", "\n", "\r\n", "\x00", "\x07", "\x1b[2J", "\x7f", "\x85", "\xa0", "\xad", "\u200b", "\u200d",
    "\u202e", "\u2028", "\u2029", "\ufeff", "\ufffe", "\uffff", "\ud83d", "\ude00", "\ud83d\ude00", "\U0001f600",
    "\U000e0001", "²", "٣", "½", "ﷺ" * 50, "e\u0301" * 30, "x" * 10_000, "a\nb: c", "- a", "a: b", "#", "%", "@", "`",
    "*a", "&a", "!!int 1", "!!python/name:os.system", "{", "[", "]", "'", '"', "\\", "null", "~", "true", "no", "1e999",
    "-0", "0x1F", "0o17", "1_000", "12:30", "2024-01-01", "<<", "=", ".", "..", "/", "/dev/null", "a/b", "../../x",
    "~nobody-there/x", "embedded:nosuch", "embedded:policy", "prefloop:kl", "nosuch:kl", ":", "kl:", "file://x", "%s{}$(x)",
]  # fmt: skip
NUMBERS: list[Any] = [
    0, -1, 1, 2, 3, 2**31, 2**32, 2**63, 2**64, 10**12, -(10**18), 10**400, 10**5000, 0.0, -0.0, 0.5, 1.0, 1.5, -1e-9, 1e-300,
    5e-324, 1e308, -1e308, float("inf"), float("-inf"), float("nan"),
]  # fmt: skip
OTHERS: list[Any] = [
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"": 1},
    {"use": None},
    {"use": "nosuch"},
    [1, "a", None],
]
BYTES: list[bytes] = [
    b"\xff", b"\xfe\xff", b"\xed\xa0\xbd", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\x00", b"\r", b"\r\n", b"\xef\xbb\xbf",
    b'"\\ud83d"', b'"\\ud83d\\ude00"', b"\xc2\x85", b"\xe2\x80\xa8", b"{", b"}", b"[", b"]", b'"', b"'", b",", b":", b"#",
    b"\n- ", b"\n? ", b"\n---\n", b"\n...\n", b"%YAML 9\n", b"&a ", b"*a", b"!!set ", b"!!binary ", b"!x ", b"<<: ", b"|\n", b">-\n",
    b"\t", b"\n\t", b"\n  ", b"1e999", b"NaN", b"Infinity", b"-", b"\\", b"[" * 20_000, b'{"a":' * 20_000, b"9" * 5000,
]  # fmt: skip


class Mutator:
    """Draws from a seed: the same seed is the same case."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def value(self) -> Any:
        return deepcopy(self.dice.choice(self.dice.choice([TEXTS, NUMBERS, OTHERS, fuzzing.ODD])))

    def key(self, key: str) -> str:
        """A misspelt, a strange or another key."""
        place = self.dice.randrange(len(key) + 1)
        strange = self.dice.choice(TEXTS)
        return self.dice.choice(
            [key[:place] + key[place + 1 :], key[:place] + strange + key[place:], strange, key.upper()]
        )

    def tree(self, tree: Any, changes: int) -> Any:
        """The tree after so many changes to what is somewhere in it."""
        for _ in range(changes):
            places = list(_places(tree))
            if not places:
                return self.value()
            self._change(*self.dice.choice(places))
        return tree

    def _change(self, holder: Any, key: Any) -> None:
        old = holder[key]
        wraps: list[Callable[[], Any]] = [
            self.value, self.value, self.value, lambda: [old], lambda: {"use": old}, lambda: [old, old], lambda: repr(type(old)),
            lambda: {str(self.dice.choice(TEXTS)): old}, lambda: _nested(old, self.dice.choice([3, 20, 60])),
            lambda: next(iter(old.values()), None) if isinstance(old, dict) else list(old) if isinstance(old, str) else old,
        ]  # fmt: skip
        if isinstance(holder, dict) and self.dice.random() < 0.3:
            del holder[key]
            if self.dice.random() < 0.7:
                holder[self.key(key)] = old
        else:
            holder[key] = self.dice.choice(wraps)()

    def bytes(self, content: bytes, changes: int) -> bytes:
        """The content after so many cuts, repetitions and insertions; now and then in another encoding."""
        for _ in range(changes):
            start = self.dice.randrange(len(content) + 1)
            end = min(len(content), start + self.dice.choice([0, 0, 1, 3, 20, 200]))
            put = self.dice.choice(
                [b"", content[start:end] * 2, self.dice.choice(BYTES), self.dice.choice(BYTES)]
            )
            content = content[:start] + put + content[end:]
        if self.dice.random() < 0.02:
            text = content.decode("utf-8", "replace")
            return text.encode(self.dice.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]))
        return content

    def configuration(self) -> tuple[bytes, list[str]]:
        """A configuration file and overrides; about a third are untouched but for an odd value."""
        dice = self.dice
        trees = fuzzing.Trees(dice)
        tree = self.tree(trees.configuration(), dice.choice([0, 0, 0, 0, 1, 2, 5]))
        text = dice.choice([_as_yaml, _as_json, _escaped])(tree)
        content = self.bytes(text.encode("utf-8", "surrogatepass"), dice.choice([0, 0, 0, 0, 0, 1, 3]))
        if dice.random() < 0.02:
            content += _laughs(dice.choice([3, 6, 9]))
        return content, [self.override(trees) for _ in range(dice.choice([0, 0, 0, 0, 0, 1, 3]))]

    def override(self, trees: fuzzing.Trees) -> str:
        """What stands behind --set: a key path that mostly is one, and any value."""
        paths = list(_paths(trees.configuration()))
        path = self.dice.choice(paths)
        if self.dice.random() < 0.3:
            path = (*path[:-1], self.key(path[-1]))
        value = self.dice.choice([self.dice.choice(TEXTS), _as_json(self.value())])
        form = self.dice.choice(["{}={}"] * 8 + ["{}", "={1}", "{}=", "{}=={}", "--set {}={}"])
        return form.format(".".join(path), value)

    def prompt_file(self) -> tuple[str, bytes]:
        """An ending, and a file of that kind to which something happened."""
        dice = self.dice
        rows: Any = self.tree(
            deepcopy(dice.choices(fuzzing.ROWS, k=dice.randint(1, 4))), dice.choice([0, 0, 1, 1, 3])
        )
        ending = dice.choice(sorted(fuzzing.WRITERS))
        try:
            content = fuzzing.WRITERS[ending](rows)
        except Exception:  # no such table can be written
            content = _as_json(rows).encode("utf-8", "surrogatepass")
        return dice.choice([ending] * 9 + [".txt", ""]), self.bytes(content, dice.choice([0, 0, 1, 3]))

    def command(self, folder: Path) -> list[str]:
        """The arguments of a command that reads a configuration, but for training with one that is right."""
        dice = self.dice
        names = [
            "good.yaml",
            "fifo",
            "folder",
            "none.yaml",
            "good.yaml/x",
            "",
            "\\",
            "x" * 5000,
            "\x1b[31m\n",
            "*",
        ]
        places = [
            *(f"{folder}/{name}" for name in names),
            "/dev/null",
            "/dev/zero",
            "/proc/self/mem",
            "~",
            "-",
            "\x00",
            "\ud83d",
        ]
        place = dice.choice([f"{folder}/good.yaml", *places])
        overrides = [self.override(fuzzing.Trees(dice)) for _ in range(dice.choice([0, 1, 2]))]
        given = [word for text in overrides for word in ("--set", text)]
        train = ["train", "--dry-run", place if place != f"{folder}/good.yaml" else f"{folder}/none"]
        asked = dice.choice([["config", "validate", place], ["config", "show", place], train, ["runs", "show", place],
                             ["runs", "list", place], ["runs", "resume", place], ["train", "--resume", place]])  # fmt: skip
        if asked[:2] in (["runs", "show"], ["runs", "list"]):
            given = []
        strange = (
            [dice.choice(["--nosuch", "--set", "-x", "", "train", *TEXTS])] if dice.random() < 0.2 else []
        )
        return [*asked, *given, *strange]


def _places(tree: Any) -> Any:
    """Every key of a mapping and index of a list, with what holds it."""
    pairs = (
        list(tree.items())
        if isinstance(tree, dict)
        else list(enumerate(tree))
        if isinstance(tree, list)
        else []
    )
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def _paths(tree: Any, above: tuple[str, ...] = ()) -> Any:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else []
    for key, value in pairs:
        yield (*above, str(key))
        yield from _paths(value, (*above, str(key)))


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _as_yaml(tree: Any) -> str:
    try:
        return dump(tree)
    except (ValueError, RecursionError):  # a number of 5,000 digits
        return _as_json(tree)


def _as_json(tree: Any) -> str:
    """JSON with characters as they are; numbers that Python does not write are texts."""
    if isinstance(tree, Mapping):
        return (
            "{"
            + ", ".join(f"{json.dumps(str(k), ensure_ascii=False)}: {_as_json(v)}" for k, v in tree.items())
            + "}"
        )
    if isinstance(tree, list):
        return "[" + ", ".join(map(_as_json, tree)) + "]"
    if isinstance(tree, int) and tree > 10**1000:
        return "1" + "0" * 5000
    return json.dumps(tree, ensure_ascii=False)


def _laughs(lines: int) -> bytes:
    names = [f"lol{i}" for i in range(lines)]
    said = [f"\n{names[0]}: &{names[0]} [x, x, x, x, x, x, x, x, x]"]
    said += [f"{n}: &{n} [{', '.join([f'*{before}'] * 9)}]" for before, n in pairwise(names)]
    return "\n".join(said).encode()


def _escaped(tree: Any) -> str:
    """JSON as `json.dump` writes it, where it can."""
    try:
        return json.dumps(tree)
    except (ValueError, RecursionError):
        return _as_json(tree)
