"""What the fuzz tests throw at prefloop: configurations and data files, right, nearly right and wrong."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st

from prefloop.config import Config
from prefloop.config.options import element_of, is_list, is_mapping, kind_of, members, options_of, section_of
from prefloop.optim import optimizer_classes
from prefloop.registry import Registry

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**64, 10**400, 0.0, -0.0, 1e-5, 1e308, 5e-324, float("inf"),
    float("nan"), "", " ", "~", "~nosuchuser/x", "no", "yes", "null", "1e-5", "0x10", "1_000", "a/b", "../..",
    "\0", "\x1b[31m", "a" * 5000, "é", "\u202e", "embedded:nosuch", "embedded:policy", "prefloop:kl", "[",
    "{}", "*a", "&a", "!!int 1", [], {}, [[]], {"": 1}, {"use": None}, {"use": "nosuch"}, [1, "a", None],
]  # fmt: skip
TEXTS = [
    "model: embedded:policy\nprompts: embedded:prompts\njudge: embedded:judge\n",
    "model: {path: m, quantize: 4bit}\nprompts: {path: p, system: 'Be\n\n  kind.'}\njudge: human\n",
    "model: m\nprompts: p\nalgorithm: xpo\nloss: ipo\nbonuses:\n  - use: kl\n    alpha: [1e-4]\n",
    "model: m\nprompts: p\njudge: &j {use: rule, prefer: [a, 'b']}\nevaluation: {judge: *j}\n",
    "model: m\nprompts: p\njudge: human\ntraining:\n  optimizer: {use: adam, betas: [0.9, 0.99]}\n",
    "model: m\nprompts: p\njudge: human\ntraining:\n  schedule: {use: cosine_decay, warmup: 10, end: 1e-6}\n",
]
SNIPPETS = [
    "\n", "\n  ", ": ", "- ", "{", "}", "[", "]", '"', "'", "|\n", "#", "&a ", "*a", "!!str ", "\t", "---\n",
    "<<: ", "? ", "\ufeff", "\0", "\x85", "%YAML 1.1\n", "1e400", "0o17", "use: ", "'\\ud800'", '"\\ud800"',
]  # fmt: skip
ROWS: list[dict[str, Any]] = [
    {"prompt": "What does a cow say?", "answer": "moo"},
    {"prompt": [{"role": "user", "content": "Hi"}], "answer": None},
    {"prompt": "a,b\n\"c\"", "answer": 3},
]  # fmt: skip


REGISTRY = Registry()
_NAMED = {
    "OptimizerConfig": sorted(optimizer_classes()),
    "ScheduleConfig": ["cosine_decay", "linear_schedule"],
}


class Trees:
    """Draws configurations as trees of plain values: most of what is in them fits, some is odd."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.odd = self.dice.choice([0.0, 0.02, 0.2])
        """The share of values that may be anything."""

    def configuration(self) -> dict[str, Any]:
        """Some of the known keys; model and prompts are there, and a judge more often than not."""
        keys = self.dice.sample(sorted(options_of(Config)), k=self.dice.randint(0, 4))
        tree: dict[str, Any] = {"model": "m", "prompts": "p.jsonl"}
        tree |= self.dice.choice([{"judge": "human"}, {"judge": {"use": "rule", "length": "longer"}}])
        tree |= {key: self.value(options_of(Config)[key].type) for key in keys}
        return tree

    def value(self, hint: Any) -> Any:
        if self.dice.random() < self.odd:
            return self.dice.choice(ODD)
        member = self.dice.choice(members(hint))
        if (kind := kind_of(member)) is not None:
            return self.component(kind)
        if (section := section_of(member)) is not None:
            return self.section(section)
        if get_origin(member) is Literal:
            return self.dice.choice(get_args(member))
        if is_list(member):
            return [self.value(element_of(member)) for _ in range(self.dice.randint(0, 3))]
        if is_mapping(member):
            return self.dice.choice([{}, {"end": 0.1}])
        return self._scalar(member)

    def section(self, cls: type) -> Any:
        """Some of a section's keys, and all that it needs."""
        options = {name: option for name, option in options_of(cls).items() if name != "options"}
        names = [n for n, option in options.items() if option.required or self.dice.random() < 0.3]
        tree = {name: self.value(options[name].type) for name in names}
        if cls.__name__ in _NAMED:
            tree["use"] = self.dice.choice(_NAMED[cls.__name__])
        return tree

    def component(self, kind: str) -> Any:
        """A component by one of its names alone, or with some of its options."""
        provider = self.dice.choice([p for p in REGISTRY.providers if p.kind == kind])
        name = self.dice.choice([provider.name, provider.qualified])
        options = self.section(REGISTRY.component(kind, name))
        return self.dice.choice([name, {"use": name, **options}])

    def _scalar(self, hint: Any) -> Any:
        dice = self.dice
        words = [
            "m",
            "a/b",
            "p.jsonl",
            "5",
            "true",
            "1e-5",
            "no",
            "null",
            " a ",
            "a: b",
            "#",
            "- a",
            "\n",
            "é\U0001f600",
        ]
        drawn = {
            bool: dice.random() < 0.5,
            int: dice.choice([0, 1, 7, 100]),
            float: dice.choice([0, 1, 0.5, 1e-5, 3.0, 1e16]),
            str: dice.choice(words),
            type(None): None,
        }
        return drawn.get(hint, dice.choice(words))


def configurations() -> st.SearchStrategy[dict[str, Any]]:
    """Trees over the known keys."""
    return st.randoms(use_true_random=True).map(lambda dice: Trees(dice).configuration())


def mutated(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes with up to four places cut, doubled, overwritten or filled with something else."""
    snippet = st.sampled_from(SNIPPETS).map(lambda text: text.encode()) | st.binary(max_size=4)
    edit = st.tuples(st.integers(0, 2000), st.integers(0, 12), snippet)
    return st.tuples(content, st.lists(edit, max_size=4)).map(lambda drawn: _edited(*drawn))


def _edited(content: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, snippet in edits:
        place %= len(content) + 1
        content = content[:place] + snippet + content[place + length :]
    return content


def yaml_files() -> st.SearchStrategy[bytes]:
    """Files that were right before something happened to them."""
    texts = st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2).map("".join)
    deep = st.sampled_from([1, 100, 3000]).map(lambda n: "model: " + "[" * n)
    as_json = configurations().map(json.dumps)
    return mutated(st.one_of(texts, texts, as_json, deep).map(lambda text: text.encode("utf-8", "replace")))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def _as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _as_json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows).encode()


def _as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _as_tsv(rows: list[dict[str, Any]]) -> bytes:
    return _as_csv(rows, "\t")


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": _as_json_lines,
    ".json": _as_json,
    ".csv": _as_csv,
    ".tsv": _as_tsv,
}


def data_files() -> st.SearchStrategy[tuple[str, bytes]]:
    """An ending, and a file of that kind to which something happened."""
    rows = st.lists(st.sampled_from(ROWS), min_size=1, max_size=3)
    deep = st.sampled_from([1, 100, 60_000]).map(lambda n: b'{"prompt": "a", "b": ' + b"[" * n)
    return st.sampled_from(sorted(WRITERS)).flatmap(
        lambda ending: st.tuples(st.just(ending), mutated(rows.map(WRITERS[ending]) | deep))
    )
