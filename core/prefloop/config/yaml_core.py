"""YAML with the scalars of YAML 1.2's core schema, read into nodes and written from plain values.

``1e-5`` is a number, ``no`` is text, only true and false are booleans, nothing is a date. Keys come once,
and there are no tags beyond the core ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from prefloop.config.tree import KeyPath, Node, Place, Problem
from prefloop.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_RESOLVERS = {
    "null": (_NULL, ["~", "n", "N", ""]),
    "bool": (_BOOL, list("tTfF")),
    "int": (_INT, list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
}
_PATTERNS = {_TAG + name: pattern for name, (pattern, _) in _RESOLVERS.items()}


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by the core schema, instead of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class _CoreDumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or the core schema would read as something other than text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # lists are indented below their key

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, (_pattern, _first) in _RESOLVERS.items():
    _CoreLoader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _CoreDumper.add_implicit_resolver(_TAG + _name, _pattern, _first)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TAG + "str", text, style="|" if "\n" in text else None)


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
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from None
    root, problems = read_text(text, Place(str(path), 1))
    if root.value is None:
        raise UserError(f"{path}:1: the file is empty. `prefloop config init` writes one to start from.")
    if root.mapping is None:
        raise UserError(f"{root.place}: the file must be a mapping of keys such as 'model: PATH'.")
    return root, problems


def read_text(text: str, place: Place) -> tuple[Node, list[Problem]]:
    """The nodes of a YAML text. Lines count from `place` where it has one. Raises `UserError`."""
    try:
        loader = _CoreLoader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{_at(place, line)}: the character {chr(error.character)!r} is not allowed."
        ) from None
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax(error, place)) from None
    except RecursionError:
        raise UserError(f"{_at(place, 1)}: is nested too deeply.") from None
    if node is None:
        return Node(None, place, place.path, ""), []
    reader = _Reader(place)
    return reader.read(node, place.path), reader.problems


def _at(place: Place, line: int) -> str:
    return str(place) if place.line is None else f"{place.source}:{line}"


def _syntax(error: yaml.MarkedYAMLError, place: Place) -> str:
    mark = error.problem_mark or error.context_mark
    where = _at(place, mark.line + 1 if mark else 1)
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
        self.origin = place
        self.problems: list[Problem] = []
        self._open: set[int] = set()

    def read(self, node: yaml.Node, path: KeyPath, place: Place | None = None) -> Node:
        """The value of a node that cannot be read is the problem itself."""
        place = place or self._place(node)
        if id(node) in self._open:
            return self._wrong(place, path, "an alias inside the value that it stands for.")
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
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(place, path, "a key must be text.")
                continue
            key = key_node.value
            if key_node.tag != _TAG + "str":
                self._wrong(place, path, f"the key {key} is not text. Put it in quotes: '{key}'.")
            elif key in found:
                first = f", first in line {found[key].place.line}" if place.line else ""
                self._wrong(place, (*path, key), f"this key is given twice{first}.")
            else:
                found[key] = self.read(value_node, (*path, key), place)
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place, path: KeyPath) -> Node:
        text = node.value
        if node.tag == _TAG + "str":
            return Node(text, place, path, text)
        pattern = _PATTERNS.get(node.tag)
        if pattern is None:
            return self._wrong(place, path, _tag_refused(node.tag))
        if not pattern.match(text):
            return self._wrong(place, path, f"{text!r} is not what its tag !!{node.tag[len(_TAG) :]} says.")
        try:
            return Node(_convert(node.tag, text), place, path, text)
        except ValueError as error:  # a whole number of thousands of digits
            return self._wrong(place, path, f"is too long a number: {error}.")

    def _wrong(self, place: Place, path: KeyPath, message: str) -> Node:
        problem = Problem(place, path, message)
        self.problems.append(problem)
        return Node(problem, place, path)

    def _place(self, node: yaml.Node) -> Place:
        if self.origin.line is None:
            return self.origin
        mark = node.start_mark
        return Place(self.origin.source, mark.line + 1, mark.column + 1)


def _convert(tag: str, text: str) -> Any:
    if tag == _TAG + "null":
        return None
    if tag == _TAG + "bool":
        return text.lower() == "true"
    if tag == _TAG + "int":
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    lowered = text.lower()
    return float(lowered.replace(".", "") if lowered.endswith(("inf", "nan")) else lowered)


def _tag_refused(tag: str) -> str:
    shown = "!!" + tag[len(_TAG) :] if tag.startswith(_TAG) else tag
    return f"the tag {shown} is not supported: write the value without it."
