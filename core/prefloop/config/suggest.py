"""What somebody who wrote an unknown key may have meant: a key close by, or the same key elsewhere."""

from __future__ import annotations

import difflib
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prefloop.config.options import Option, element_of, kind_of, options_of, section_of
from prefloop.config.schema import Config
from prefloop.config.tree import InvalidError, Node, Problem
from prefloop.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prefloop.config.components import Components


class Suggestions:
    """Knows the key paths of every option in reach, such as ``loss.beta``, by their last name."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._given = paths

    @cached_property
    def _paths(self) -> dict[str, list[str]]:
        """By last name; worked out when something is unknown."""
        found: dict[str, list[str]] = {}
        for path in dict.fromkeys(self._given):
            found.setdefault(path.rpartition(".")[2], []).append(path)
        return found

    def unknown(self, node: Node, key: str, known: Mapping[str, Option]) -> Problem:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        elsewhere = [path for path in self._paths.get(key, []) if path != ".".join(node.path)]
        guesses = [*near, *elsewhere[:3]]
        if guesses:
            hint = f" Did you mean {_or(guesses)}?"
        else:
            hint = did_you_mean(key, known) or " There are none here."
        return Problem(node.place, node.path, f"there is no such option.{hint}")

    @staticmethod
    def close(given: str, known: Iterable[str]) -> str:
        """`` Did you mean 'x'?``, or nothing."""
        near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
        return f" Did you mean '{near[0]}'?" if near else ""


def option_paths(root: Node, components: Components) -> Iterator[str]:
    """The key paths of all settings, and of the options of the components that `root` uses."""
    for name, option in options_of(Config).items():
        yield name
        node = (root.mapping or {}).get(name)
        section = section_of(option.type)
        if section is not None:
            yield from (f"{name}.{key}" for key in options_of(section))
        elif node is not None:
            yield from _component_paths(components.expand(node, option.type), option.type, components)


def _component_paths(node: Node, hint: Any, components: Components) -> Iterator[str]:
    if node.items is not None:
        for item in node.items:
            expanded = components.expand(item, element_of(hint))
            yield from _component_paths(expanded, element_of(hint), components)
        return
    kind = kind_of(hint)
    if kind is not None:
        with suppress(InvalidError, UserError):  # what is wrong with it is reported elsewhere
            options = options_of(components.class_of(node, kind))
            yield from (".".join((*node.path, key)) for key in options)


def _or(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
