"""YAML files as nodes: values that know where they were written, for errors with file, line and key path.

Scalars are those of YAML 1.2's core schema: ``1e-5`` is a number, ``no`` is text, only true and false are
booleans, nothing is a date. Keys come once, and there are no tags beyond the core ones. Two surrogates, which
is how JSON escapes an emoji, are one character; a lone one is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import yaml
from attrs import evolve, field, frozen

from prefloop.errors import UserError
from prefloop.text import SURROGATE

KeyPath = tuple[str, ...]
DEPTH = 50
"""How deeply values may be nested."""
ALIASED = 20_000
"""How many values the aliases of a file may stand for; a few lines of them could stand for billions."""


@frozen
class Place:
    """Where something was written: a line of a file, an override, or a preset."""

    source: str
    line: int | None = None
    path: KeyPath = ()
    """The key path that `source` already names, as an override does."""

    def at(self, line: int) -> Place:
        """The same source at another line; itself where it has no lines."""
        return self if self.line is None else Place(self.source, line)

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

    @property
    def plain(self) -> Any:
        """The ordinary Python value."""
        if self.mapping is not None:
            return {key: child.plain for key, child in self.mapping.items()}
        if self.items is not None:
            return [item.plain for item in self.items]
        return self.value

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
    def at(cls, node: Node, message: str) -> Self:
        return cls(Problem(node.place, node.path, message))


@contextmanager
def collected(problems: list[Problem]) -> Iterator[None]:
    """Add what is wrong to `problems` instead of raising it, so that whatever else is wrong is found too."""
    try:
        yield
    except InvalidError as error:
        problems += error.problems


def from_plain(value: Any, place: Place, path: KeyPath = ()) -> Node:
    """Nodes of a Python value, all in one `place`. Raises `InvalidError` for a key that is not text, half a
    character, or too deep a nesting.
    """
    if len(path) > DEPTH:
        raise InvalidError(Problem(place, path[:3], "is nested too deeply."))
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidError(Problem(place, path, f"the key {key!r} is not text."))
            if not _is_unicode(key):
                raise InvalidError(Problem(place, (*path, key), HALF))
        return Node({k: from_plain(v, place, (*path, k)) for k, v in value.items()}, place, path)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return Node(tuple(from_plain(v, place, (*path, str(i))) for i, v in enumerate(value)), place, path)
    if isinstance(value, str) and not _is_unicode(value):
        raise InvalidError(Problem(place, path, HALF))
    if isinstance(value, int) and value.bit_length() > 4096:  # more digits than Python likes to write
        raise InvalidError(Problem(place, path, "is too long a number."))
    return Node(value, place, path)


def _is_unicode(text: str) -> bool:
    return not SURROGATE.search(text)


def in_words(node: Node) -> str:
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
        return f"the text {shortened(node.value)!r}"
    if isinstance(node.value, int | float):
        return f"the number {shortened(node.spelling or str(node.value))}"
    return f"a Python {type(node.value).__name__}"


def shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def plain_message(error: Exception) -> str:
    """What an exception says, without the field name that attrs puts first, as one sentence."""
    text = str(error.args[0] if isinstance(error, ValueError | TypeError) and error.args else error)
    text = re.sub(r"^'\w+' (?=must)", "", text)
    text = re.sub(r"^(must be (?:>=|>|<=|<) \S+): (.+)$", r"\1, not \2", text)
    text = " ".join(text.split()) or type(error).__name__
    return text if text.endswith((".", "?", "!")) else text + "."


HALF = "holds half a character (a lone surrogate), which no text can."
_FOREIGN_BREAK = re.compile("[\x85\u2028\u2029]")
"""Line breaks to PyYAML, which folds them, but not to YAML 1.2: as escapes they are what they are."""
_OPEN_STREAM = re.compile(r"/dev/stdin|/dev/fd/|/proc/self/fd/")
"""Pipes that a shell has opened for us already."""
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    "float": (_FLOAT, [*"-+.0123456789"]),
}
"""Types of the core schema: how a scalar of each is written, and the characters it begins with."""
_PATTERNS = {_TAG + name: re.compile(f"^(?:{pattern})$") for name, (pattern, _) in _SCALARS.items()}


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema, instead of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class _CoreDumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or the core schema would read as something other than text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # lists are indented below their key

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_, _first) in zip(_PATTERNS, _SCALARS.values(), strict=True):
    _CoreLoader.add_implicit_resolver(_tag, _PATTERNS[_tag], _first)
    _CoreDumper.add_implicit_resolver(_tag, _PATTERNS[_tag], _first)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _FOREIGN_BREAK.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar(_TAG + "str", text, style=style)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    flat = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence(_TAG + "seq", items, flow_style=flat)


_CoreDumper.add_representer(str, _represent_text)
_CoreDumper.add_representer(list, _represent_list)


def dump(value: Any) -> str:
    """`value` as YAML: lists of scalars on one line, the rest in blocks."""
    return yaml.dump(
        value, Dumper=_CoreDumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100
    )


def read_file(path: Path) -> tuple[Node, list[Problem]]:
    """The nodes of a file, and what is wrong with single keys of it.

    Raises `UserError` where the file cannot be read as one YAML mapping at all.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir() and not _OPEN_STREAM.match(str(path)):
            raise UserError(f"{path}: is a pipe or a device, not a file.")  # reading it may never end
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: {error.reason} at byte {error.start}. Save the file as UTF-8."
        raise UserError(f"{path}: {message}") from None
    except (OSError, ValueError) as error:  # a name with a zero byte in it
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}.") from None
    root, problems = read_text(text, Place(str(path), 1))
    if root.value is None:
        raise UserError(f"{path}:1: the file is empty. `prefloop config init` writes one to start from.")
    if root.mapping is None:
        raise UserError(f"{root.place}: the file must be a mapping of keys such as 'model: PATH'.")
    return root, problems


def read_text(text: str, place: Place) -> tuple[Node, list[Problem]]:
    """The nodes of a YAML text. Lines count from `place` where it has one. Raises `UserError`."""
    if foreign := _FOREIGN_BREAK.search(text):
        line, escape = text.count("\n", 0, foreign.start()) + 1, f'"\\u{ord(foreign[0]):04x}"'
        raise UserError(f"{place.at(line)}: has a line break that is none of YAML's: write it as {escape}.")
    try:
        loader = _CoreLoader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character {chr(error.character)!r} is not allowed."
        raise UserError(f"{place.at(line)}: {message}") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax(error, place)) from None
    except RecursionError:
        raise UserError(f"{place.at(1)}: is nested too deeply.") from None
    if node is None:
        return Node(None, place, place.path, ""), []
    reader = _Reader(place)
    try:
        return reader.read(node, place.path), reader.problems
    except InvalidError as error:
        raise UserError(*map(str, error.problems)) from None


def _syntax(error: yaml.MarkedYAMLError, place: Place) -> str:
    mark = error.problem_mark or error.context_mark
    where = place.at(mark.line + 1 if mark else 1)
    column = f" at column {mark.column + 1}" if mark else ""
    problem = error.problem or error.context or "it cannot be read"
    if "'\\t'" in problem:
        problem = "a tab, where YAML is indented with spaces"
    elif place.line is not None:
        problem += _beginning(error)
    return f"{where}: is not valid YAML{column}: {problem}."


def _beginning(error: yaml.MarkedYAMLError) -> str:
    """Where a bracket or quote began that is not closed: the fault may lie in that earlier line."""
    began, found = error.context_mark, error.problem_mark
    unfinished = (error.context or "").startswith("while")
    if not unfinished or began is None or found is None or began.line == found.line:
        return ""
    return f", {error.context} that starts in line {began.line + 1}"


class _Reader:
    """Turns PyYAML's nodes into ours, collecting what is wrong on the way."""

    def __init__(self, place: Place) -> None:
        self._source = place
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._aliased = 0

    def read(self, node: yaml.Node, path: KeyPath, place: Place | None = None) -> Node:
        """The value of a node that cannot be read is the problem itself.

        Raises `InvalidError` where there is no end of them.
        """
        place = place or self._source.at(node.start_mark.line + 1)
        if id(node) in self._open:
            return self._wrong(place, path, "an alias inside the value that it stands for.")
        self._aliased += id(node) in self._seen
        self._seen.add(id(node))
        if len(path) > DEPTH:
            raise InvalidError(Problem(place, path[:3], "is nested too deeply."))
        if self._aliased > ALIASED:
            message = f"its aliases stand for more than {ALIASED:,} values."
            raise InvalidError(Problem(place, path[:3], message))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return Node(self._mapping(node, path), place, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                items = (self.read(item, (*path, str(i))) for i, item in enumerate(node.value))
                return Node(tuple(items), place, path)
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, place, path)
            return self._wrong(place, path, _tag_refused(node.tag))
        finally:
            self._open.remove(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            place = self._source.at(key_node.start_mark.line + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(place, path, "a key must be text.")
                continue
            key = _joined(key_node.value)
            if not _is_unicode(key):
                self._wrong(place, (*path, key), HALF)
            elif key_node.tag != _TAG + "str":
                self._wrong(place, path, f"the key {key} is not text. Put it in quotes: '{key}'.")
            elif key in found:
                first = f", first in line {found[key].place.line}" if place.line else ""
                self._wrong(place, (*path, key), f"this key is given twice{first}.")
            else:
                found[key] = self.read(value_node, (*path, key), place)
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place, path: KeyPath) -> Node:
        text = _joined(node.value)
        if not _is_unicode(text):
            return self._wrong(place, path, HALF)
        if node.tag == _TAG + "str":
            return Node(text, place, path, text)
        pattern = _PATTERNS.get(node.tag)
        if pattern is None:
            return self._wrong(place, path, _tag_refused(node.tag))
        if not pattern.match(text):
            said = f"{shortened(text)!r} is not what its tag !!{node.tag[len(_TAG) :]} says."
            return self._wrong(place, path, said)
        try:
            return Node(_convert(node.tag, text), place, path, text)
        except ValueError:  # a whole number of thousands of digits
            return self._wrong(place, path, f"is too long a number: it has {len(text):,} digits.")

    def _wrong(self, place: Place, path: KeyPath, message: str) -> Node:
        problem = Problem(place, path, message)
        self.problems.append(problem)
        return Node(problem, place, path)


def _convert(tag: str, text: str) -> Any:
    if tag == _TAG + "null":
        return None
    if tag == _TAG + "bool":
        return text.lower() == "true"
    if tag == _TAG + "int":
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    lowered = text.lower()
    return float(lowered.replace(".", "") if lowered.endswith(("inf", "nan")) else lowered)


def _joined(text: str) -> str:
    """`text` with the one character that two surrogates stand for."""
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _tag_refused(tag: str) -> str:
    shown = shortened("!!" + tag[len(_TAG) :] if tag.startswith(_TAG) else tag)
    return f"the tag {shown} is not supported: write the value without it."
