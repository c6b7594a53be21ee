"""Key paths such as ``judge.temperature``: overrides that set one, and what an unknown key may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from prefloop.config.options import Option, element_of, kind_of, option_called, options_of, section_of
from prefloop.config.schema import Config
from prefloop.config.yaml_nodes import InvalidError, KeyPath, Node, Place, Problem, in_words, read_text
from prefloop.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from prefloop.config.components import Components


@frozen
class Override:
    """One key path and the value to put there."""

    path: KeyPath
    value: Node

    @property
    def has_index(self) -> bool:
        return any(part.isdigit() for part in self.path)


def parse_override(text: str) -> Override:
    """``a.b.c=VALUE``, the value in YAML. Raises `UserError` where it is not of that form."""
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"--set {text}: must have the form KEY.PATH=VALUE, such as loss.beta=0.2.")
    node, problems = read_text(value, Place(f"--set {text}", path=path))
    if problems:
        raise UserError(*map(str, problems))
    return Override(path, node)


def put_override(root: Node, override: Override, components: Components) -> Node:
    """The tree with the override in it, short forms on the way written out. Raises `InvalidError`."""
    return _put(root, Config, override.path, override, components)


def _put(node: Node, hint: Any, path: KeyPath, override: Override, components: Components) -> Node:
    if not path:
        return override.value
    node = components.expand(node, hint)
    key, rest = path[0], path[1:]
    if node.items is not None:
        index = _index(node.items, key, override)
        items = list(node.items)
        items[index] = _put(items[index], element_of(hint) or Any, rest, override, components)
        return evolve(node, value=tuple(items))
    if node.value is None:
        node = evolve(node, value={})
    if node.mapping is None:
        above = ".".join(node.path)
        raise InvalidError.at(
            override.value, f"'{above}' is {in_words(node)}, so nothing can be set below it."
        )
    option = option_called(key, components.options_at(node, hint))
    if option is not None and key != option.name:
        components.note_former_key(Node(None, override.value.place, (*node.path, key)), option)
        key = option.name
    below = option.type if option else element_of(hint) or Any
    child = node.mapping.get(key) or Node(None, override.value.place, (*node.path, key))
    return node.replaced(key, _put(child, below, rest, override, components))


def _index(items: tuple[Node, ...], key: str, override: Override) -> int:
    if key.isdigit() and int(key) < len(items):
        return int(key)
    known = f"a number from 0 to {len(items) - 1}" if items else "an entry, but the list is empty"
    raise InvalidError.at(override.value, f"'{key}' must be {known}.")


def unknown_key(node: Node, key: str, known: Mapping[str, Option], paths: Iterable[str]) -> Problem:
    """What is wrong with `node`, whose `key` is none of the options that are `known` there.

    `paths` are the key paths of every option in reach: the same key may stand elsewhere.
    """
    if (option := option_called(key, known)) is not None:
        message = f"is the former name of '{option.name}', which is given too. Remove one of them."
        return Problem(node.place, node.path, message)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    here = ".".join(node.path)
    elsewhere = [path for path in dict.fromkeys(paths) if path.rpartition(".")[2] == key and path != here]
    quoted = [f"'{name}'" for name in (*near, *elsewhere[:3])]
    if quoted:
        hint = f" Did you mean {' or '.join(filter(None, (', '.join(quoted[:-1]), quoted[-1])))}?"
    else:
        hint = did_you_mean(key, known) or " There are none here."
    return Problem(node.place, node.path, f"there is no such option.{hint}")


def option_paths(root: Node, components: Components) -> Iterator[str]:
    """The key paths of all settings, and of the options of the components that `root` uses."""
    for name, option in options_of(Config).items():
        yield name
        node = (root.mapping or {}).get(name)
        if (section := section_of(option.type)) is not None:
            yield from (f"{name}.{key}" for key in options_of(section))
        elif node is not None:
            yield from _component_paths(components.expand(node, option.type), option.type, components)


def _component_paths(node: Node, hint: Any, components: Components) -> Iterator[str]:
    for item in node.items or ():
        expanded = components.expand(item, element_of(hint))
        yield from _component_paths(expanded, element_of(hint), components)
    if node.items is None and kind_of(hint) is not None:
        yield from (".".join((*node.path, key)) for key in components.options_at(node, hint))
