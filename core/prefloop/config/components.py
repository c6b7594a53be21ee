"""Names in a configuration to component classes, and short forms to whole mappings.

A component is written as its name or as ``{use: NAME, option: value, ...}``. Any other bare value sets the
field that the class names in `shorthand`; for a component that is the bundled class which has one, so
``judge: Qwen/Qwen3-0.6B`` is ``judge: {use: llm, model: Qwen/Qwen3-0.6B}``.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import evolve

from prefloop.config.options import KIND_OF, element_of, is_list, kind_of, members, section_of
from prefloop.config.tree import InvalidError, Node, say
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, Origin, Registry

EMBEDDED = "embedded:"


class Components:
    """Looks names up in a registry; that of all installed plugins where none is given."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._given = registry
        self.origins: dict[type, Origin] = {}
        """Of every class that was looked up."""

    @cached_property
    def registry(self) -> Registry:
        return self._given or Registry()  # late, as this imports the plugins

    def expand(self, node: Node, hint: Any) -> Node:
        """The node in its long form for a type: a mapping, or a list for a list of components."""
        kind = kind_of(hint)
        if kind is not None:
            return self._expand_component(node, kind)
        section = section_of(hint)
        if section is not None:
            return _expand_section(node, section)
        listed = next((m for m in members(hint) if is_list(m)), None)
        if listed is not None and kind_of(element_of(listed)) and isinstance(node.value, str | dict):
            return evolve(node, value=(node,), spelling=None)  # one component is a list of one
        return node

    def class_of(self, node: Node, kind: str) -> type:
        """The class that an expanded node names. Raises `InvalidError`."""
        use = self.use_of(node, kind)
        try:
            provider = self.registry.find(kind, use.value)
            cls = provider.load()
        except UserError as error:
            raise InvalidError.at(use, str(error)) from error
        self.origins[cls] = provider.origin
        return cls

    def use_of(self, node: Node, kind: str) -> Node:
        """The name in an expanded node. Raises `InvalidError` where there is none."""
        if node.mapping is None:
            raise InvalidError.at(
                node, f"must be a {kind}: a name, or a mapping with 'use', not {say(node)}."
            )
        use = node.mapping.get("use")
        if use is None:
            raise InvalidError.at(node, f"is missing 'use', which names the {kind}.")
        if not isinstance(use.value, str) or not use.value:
            raise InvalidError.at(use, f"must be the name of a {kind}, not {say(use)}.")
        return use

    def same(self, hint: Any, first: Node, second: Node) -> bool:
        """Whether two nodes use one component, under whichever of its names. Raises `InvalidError`."""
        kind = KIND_OF[hint]
        names: list[str] = []
        for node in (first, second):
            name = self.use_of(self.expand(node, hint), kind).value
            with suppress(UserError):
                name = self.registry.find(kind, name).qualified
            names.append(name)
        return names[0] == names[1]

    def _expand_component(self, node: Node, kind: str) -> Node:
        if not isinstance(node.value, str):
            return node
        value = {"use": evolve(node)}
        if not self._registered(kind, node.value) and _names_a_place(node.value):
            name, argument = self._shorthand(kind) or (node.value, "")
            if argument:
                value = {
                    "use": node.child("use", name),
                    argument: evolve(node, path=(*node.path, argument)),
                }
        return evolve(node, value=value, spelling=None)

    def _registered(self, kind: str, name: str) -> bool:
        offered = {n for p in self.registry.providers if p.kind == kind for n in (p.name, p.qualified)}
        return name in offered

    def _shorthand(self, kind: str) -> tuple[str, str] | None:
        """The one bundled component of a kind that takes a bare value, and the field that it sets."""
        found = []
        for provider in self.registry.providers:
            if provider.kind == kind and provider.distribution == BUNDLED:
                with suppress(UserError):
                    field = getattr(provider.load(), "shorthand", None)
                    if field:
                        found.append((provider.name, field))
        return found[0] if len(found) == 1 else None


def _names_a_place(text: str) -> bool:
    if "/" in text or text.startswith(EMBEDDED):
        return True
    with suppress(OSError, ValueError):  # not even possible as a file name
        return Path(text).exists()
    return False


def _expand_section(node: Node, section: type) -> Node:
    field = getattr(section, "shorthand", None)
    if field is None or not isinstance(node.value, str | int | float):
        return node
    return evolve(node, value={field: evolve(node)}, spelling=None)
