"""Names in a configuration to component classes, short forms to whole mappings, former keys to present ones.

A component is written as its name or as ``{use: NAME, option: value, ...}``. Any other bare value sets the
field that the class names in `shorthand`; for a component that is the bundled class which has one, so
``judge: Qwen/Qwen3-0.6B`` is ``judge: {use: llm, model: Qwen/Qwen3-0.6B}``. An algorithm is a preset of such
mappings, over which the user's own go.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from prefloop import embedded
from prefloop.components import Algorithm, Bonus, Judge, Loss, Sampler, shorthand_of
from prefloop.config.options import (
    KIND_OF,
    element_of,
    is_list,
    kind_of,
    members,
    option_called,
    options_of,
    section_of,
    with_article,
)
from prefloop.config.yaml_nodes import InvalidError, Node, Place, Problem, from_plain, in_words, plain_message
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, Origin, Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefloop.config.options import Option

PRESET: Mapping[str, Any] = {
    "sampler": Sampler,
    "judge": Judge,
    "loss": Loss,
    "bonuses": tuple[Bonus, ...],
}
"""The keys that an algorithm may set, with their types."""


class ComponentLookup:
    """Looks names up in a registry; that of all installed plugins where none is given."""

    def __init__(self, registry: Registry | None = None) -> None:
        self._given = registry
        self.origins: dict[type, Origin] = {}
        """Where every class that was looked up comes from."""
        self.former: list[Problem] = []
        """Every former key and value that was found, with what it is now. Some are there twice."""

    @cached_property
    def registry(self) -> Registry:
        return self._given or Registry()  # not before it is needed, as this imports the plugins

    def expand(self, node: Node, hint: Any) -> Node:
        """The node in its long form for a type: a mapping, or a list for a list of components."""
        kind, shorthand = kind_of(hint), shorthand_of(section_of(hint))
        if kind is not None:
            node = self._expand_component(node, kind)
        elif shorthand and isinstance(node.value, str | int | float):
            node = evolve(node, value={shorthand: node}, spelling=None)
        elif _lists_components(hint) and isinstance(node.value, str | dict):
            node = evolve(node, value=(node,), spelling=None)  # one component is a list of one
        if node.mapping is None or node.mapping.keys() <= {"use"}:  # which spares an import
            return node
        return self._with_present_keys(node, self.options_at(node, hint))

    def options_at(self, node: Node, hint: Any) -> Mapping[str, Option]:
        """The options of an expanded node of a type; none where there is no such component."""
        kind, section = kind_of(hint), section_of(hint)
        with suppress(InvalidError, UserError):
            cls = self.class_of(node, kind) if kind is not None else section
            return options_of(cls) if cls is not None else {}
        return {}

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
            message = f"must be {with_article(kind)}: a name, or a mapping with 'use', not {in_words(node)}."
            raise InvalidError.at(node, message)
        use = node.mapping.get("use")
        if use is None:
            raise InvalidError.at(node, f"is missing 'use', which names the {kind}.")
        if not isinstance(use.value, str) or not use.value:
            raise InvalidError.at(use, f"must be the name of {with_article(kind)}, not {in_words(use)}.")
        return use

    def same(self, hint: Any, first: Node, second: Node) -> bool:
        """Whether two nodes use one component, under whichever of its names. Raises `InvalidError`."""
        kind = KIND_OF[hint]
        names = [self.use_of(self.expand(node, hint), kind).value for node in (first, second)]
        with suppress(UserError):
            return self.registry.find(kind, names[0]) == self.registry.find(kind, names[1])
        return bool(names[0] == names[1])

    def overlay(self, hint: Any, preset: Node | None, given: Node | None) -> Node | None:
        """What is given, over what a preset has. Raises `InvalidError`.

        Options go over those of the same component, or of whichever one the preset uses where `use` is not
        given. Another component, and a list of bonuses, takes the place of the preset's.
        """
        if preset is None or given is None or hint not in KIND_OF:
            return given or preset
        preset, given = self.expand(preset, hint), self.expand(given, hint)
        if preset.mapping is None or given.mapping is None:
            return given
        if "use" not in given.mapping:  # expanded once more, as its class is known now
            use = {"use": preset.mapping["use"]} if "use" in preset.mapping else {}
            given = self.expand(evolve(given, value=use | given.mapping), hint)
        elif not self.same(hint, preset, given):
            return given
        return evolve(given, value=preset.mapping | (given.mapping or {}), spelling=None)

    def note_former_key(self, node: Node, option: Option) -> None:
        """Remember that `node` was written under a former name of its option."""
        now = ".".join((*node.path[:-1], option.name))
        message = f"is now {now}; the former key goes in a later version."
        self.former.append(Problem(node.place, node.path, message))

    def _with_present_keys(self, node: Node, options: Mapping[str, Option]) -> Node:
        """A mapping with present keys and values for former ones; a key that it has twice stays as it is."""
        given = node.mapping or {}
        value: dict[str, Node] = {}
        for key, child in given.items():
            option = option_called(key, options)
            if option is None or (key != option.name and option.name in given):
                value[key] = child
                continue
            if key != option.name:
                self.note_former_key(child, option)
                child = evolve(child, path=(*node.path, option.name))
            value[option.name] = self._with_present_value(child, option)
        return evolve(node, value=value)

    def _with_present_value(self, node: Node, option: Option) -> Node:
        if not isinstance(node.value, str) or node.value not in option.former_values:
            return node
        now = option.former_values[node.value]
        message = f"the value {node.value} is now {now}; the former one goes in a later version."
        self.former.append(Problem(node.place, node.path, message))
        return evolve(node, value=now, spelling=None)

    def _expand_component(self, node: Node, kind: str) -> Node:
        name, field = node.value, None
        if not isinstance(name, str):
            return node
        if not self._registered(kind, name) and _names_a_place(name):
            name, field = self._shorthand(kind) or (name, None)
        if field is None:
            return evolve(node, value={"use": node}, spelling=None)
        use = Node(name, node.place, (*node.path, "use"))
        value = {"use": use, field: evolve(node, path=(*node.path, field))}
        return evolve(node, value=value, spelling=None)

    def _registered(self, kind: str, name: str) -> bool:
        return any(name in (p.name, p.qualified) for p in self.registry.of_kind(kind))

    def _shorthand(self, kind: str) -> tuple[str, str] | None:
        """The one bundled component of a kind that takes a bare value, and the field that it sets."""
        found = []
        for provider in self.registry.of_kind(kind):
            if provider.distribution == BUNDLED:
                with suppress(UserError):
                    if field := shorthand_of(provider.load()):
                        found.append((provider.name, field))
        return found[0] if len(found) == 1 else None


def preset_of(algorithm: Algorithm, name: str, node: Node) -> Mapping[str, Node]:
    """What an algorithm sets. Raises `InvalidError` where it sets a key that is not its to set."""
    try:
        plain = dict(algorithm.settings())
    except (ValueError, UserError) as error:
        raise InvalidError.at(node, plain_message(error)) from error
    settings = from_plain(plain, Place(f"algorithm '{name}'")).mapping or {}
    for key in settings:
        if key not in PRESET:
            keys = ", ".join(PRESET)
            raise InvalidError.at(node, f"algorithm '{name}' sets '{key}', but may set only {keys}.")
    return settings


def _names_a_place(text: str) -> bool:
    if "/" in text or text.startswith(embedded.PREFIX):
        return True
    with suppress(OSError, ValueError):  # not even possible as a file name
        return Path(text).exists()
    return False


def _lists_components(hint: Any) -> bool:
    return any(is_list(member) and kind_of(element_of(member)) for member in members(hint))
