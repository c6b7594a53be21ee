"""Algorithms: what one sets, and what the user's own keys make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from prefloop.components import Algorithm, Bonus, Judge, Loss, Sampler
from prefloop.config.tree import InvalidError, Node, Place, from_plain, plain_message
from prefloop.errors import UserError

if TYPE_CHECKING:
    from prefloop.config.components import Components

PRESET: dict[str, Any] = {
    "sampler": Sampler,
    "judge": Judge,
    "loss": Loss,
    "bonuses": tuple[Bonus, ...],
}
"""The keys that an algorithm may set, with their types."""


def preset_of(algorithm: Algorithm, name: str, node: Node) -> dict[str, Node]:
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


def overlay(key: str, preset: Node | None, given: Node | None, components: Components) -> Node | None:
    """What is given, over the preset.

    Options overlay those of the same component, or of whichever one the preset uses where `use` is not
    given. Another component, and a list of bonuses, takes the place of the preset's.
    """
    if preset is None or given is None:
        return given or preset
    if key == "bonuses":
        return given
    return overlay_component(PRESET[key], preset, given, components)


def overlay_component(hint: Any, preset: Node, given: Node, components: Components) -> Node:
    """The options in `given` over those in `preset`, where both use one component."""
    preset, given = components.expand(preset, hint), components.expand(given, hint)
    if preset.mapping is None or given.mapping is None:
        return given
    if "use" in given.mapping and not components.same(hint, preset, given):
        return given
    return evolve(given, value={**preset.mapping, **given.mapping}, spelling=None)
