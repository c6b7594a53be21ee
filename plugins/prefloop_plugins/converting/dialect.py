"""A dialect: how another tool writes its configuration, and how prefloop knows it when it sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import Factory, frozen

from prefloop.config.yaml_nodes import Node
from prefloop_plugins.converting.rules import Given, Made, Rule

MODEL = ("model.path",)
PROMPTS = ("prompts.path",)
ALGORITHM = ("algorithm.use",)
JUDGE = ("judge.use", "judge.model")
"""Settings of which one has to be there, for a run to be."""
Habits = Callable[[Given], Mapping[str, Made]]
"""What a tool does with no key for it, by a name for it."""


def _as_written(key: str) -> str:
    return key


def _always(_: Given) -> bool:
    return True


@frozen
class Dialect:
    """A table of keys, and what goes with it.

    `tool` writes it and `trainer` reads it. A file is of this dialect where it has one of the keys in
    `marks`. `required` says what is missing where a file gives none of some settings. `remark` holds for
    every file, and what `habits` gives is done by the trainer without a key. `own_sections` are sections that
    any key may stand in. `canonical` gives the name in the table of a key as it is written, `spellings` are
    such keys. `ignores` says whether the trainer ignores in this file the keys that have a `Rule.ran_with`.
    """

    name: str
    tool: str
    trainer: str
    marks: frozenset[str]
    rules: Mapping[str, Rule]
    habits: Habits
    required: Mapping[tuple[str, ...], str]
    remark: str = ""
    own_sections: frozenset[str] = Factory(frozenset)
    canonical: Callable[[str], str] = _as_written
    spellings: frozenset[str] = Factory(frozenset)
    ignores: Callable[[Given], bool] = _always

    def marks_in(self, root: Node) -> Mapping[str, int | None]:
        """The marks that a file has, with their lines. A section is one where it is a mapping."""
        return {
            key: node.place.line
            for key, node in (root.mapping or {}).items()
            if key in self.marks and (key not in self.own_sections or node.mapping is not None)
        }

    @property
    def sections(self) -> frozenset[str]:
        """The keys whose mappings have keys of their own in the table."""
        return self.own_sections | {key.rpartition(".")[0] for key in self.rules if "." in key}

    @property
    def known(self) -> frozenset[str]:
        """The keys that may stand at the top of a file."""
        return frozenset(key.partition(".")[0] for key in self.rules) | self.own_sections

    def flat(self, root: Node) -> Iterator[tuple[str, Node]]:
        """The keys of a file, those of its sections dotted, with their nodes."""
        for key, node in (root.mapping or {}).items():
            if key in self.sections and node.mapping:
                yield from ((f"{key}.{name}", child) for name, child in node.mapping.items())
            else:
                yield key, node

    def given(self, root: Node) -> Given:
        """The values of a file, for its rules."""
        values: dict[str, Any] = {self.canonical(key): node.plain for key, node in self.flat(root)}
        return Given(values)
