"""A configuration before it is checked: values that know where they were written.

Everything that reads a configuration works on these nodes, so that whatever is wrong can be said with
file, line and key path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

KeyPath = tuple[str, ...]


@frozen
class Place:
    """Where something was written: a line of a file, an override, or a preset."""

    source: str
    line: int | None = None
    column: int | None = None
    path: KeyPath = ()
    """The key path that `source` already names, as an override does."""

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@frozen
class Node:
    """A value with its place (that of its key, in a mapping) and its key path.

    `value` is a text, number, boolean or None, a tuple of nodes, or a mapping from text to nodes.
    """

    value: Any
    place: Place
    path: KeyPath = ()
    spelling: str | None = field(default=None, eq=False)
    """A scalar as it was written, to quote it back."""

    @property
    def mapping(self) -> dict[str, Node] | None:
        return self.value if isinstance(self.value, dict) else None

    @property
    def items(self) -> tuple[Node, ...] | None:
        return self.value if isinstance(self.value, tuple) else None

    def child(self, key: str, value: Any) -> Node:
        """A node below this one, in the same place."""
        return Node(value, self.place, (*self.path, key))

    def replaced(self, key: str, node: Node) -> Node:
        """This mapping with `node` under `key`."""
        return evolve(self, value={**self.value, key: node}, spelling=None)


@frozen
class Problem:
    """One thing that is wrong, as one line: ``FILE:LINE: key.path: message``."""

    place: Place
    path: KeyPath
    message: str

    def __str__(self) -> str:
        path = ".".join(self.path) if self.path != self.place.path else ""
        return ": ".join(part for part in (str(self.place), path, self.message) if part)


class InvalidError(Exception):
    """What is wrong with a node. Collected, and raised in the end as one `UserError`."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    @classmethod
    def at(cls, node: Node, message: str) -> InvalidError:
        return cls(Problem(node.place, node.path, message))


def from_plain(value: Any, place: Place, path: KeyPath = ()) -> Node:
    """Nodes of a Python value, all in one `place`. Raises `InvalidError` for a key that is not text."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidError(Problem(place, path, f"the key {key!r} is not text."))
        return Node({k: from_plain(v, place, (*path, k)) for k, v in value.items()}, place, path)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node(tuple(from_plain(v, place, (*path, str(i))) for i, v in enumerate(value)), place, path)
    return Node(value, place, path)


def to_plain(node: Node) -> Any:
    """The ordinary Python value of a node."""
    if node.mapping is not None:
        return {key: to_plain(child) for key, child in node.mapping.items()}
    if node.items is not None:
        return [to_plain(item) for item in node.items]
    return node.value


def say(node: Node) -> str:
    """A node's value in words, to end "must be a number, not ..." with."""
    if node.mapping is not None:
        return "a mapping"
    if node.items is not None:
        return "a list"
    if node.value is None:
        return "null (nothing)"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, str):
        return f"the text {_short(node.value)!r}"
    if isinstance(node.value, int | float):
        return f"the number {node.spelling or node.value}"
    return f"a Python {type(node.value).__name__}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def plain_message(error: Exception) -> str:
    """What an exception says, without the field name that attrs puts first, as one sentence."""
    text = str(error.args[0] if isinstance(error, ValueError | TypeError) and error.args else error)
    text = re.sub(r"^'\w+' (?=must)", "", text)
    text = re.sub(r"^(must be (?:>=|>|<=|<) \S+): (.+)$", r"\1, not \2", text)
    text = " ".join(text.split()) or type(error).__name__
    return text if text.endswith((".", "?", "!")) else text + "."
