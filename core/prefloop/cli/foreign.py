"""Configurations that other tools read: a command of the bundled plugins makes them into prefloop's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prefloop.config import load_config
from prefloop.registry import BUNDLED, DEFAULTS, Registry

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.config.yaml_nodes import Node


class Converter(Protocol):
    """What the command that converts can do besides."""

    def foreign(self, root: Node, overrides: Sequence[str]) -> Node | None:
        """The nodes of another tool's configuration as prefloop's, said to the user; None for any other."""


def load_any(file: Path, overrides: Sequence[str]) -> Config:
    """The configuration in `file`, converted first where another tool reads it.

    Raises `UserError` like `load_config`, and for what cannot be converted.
    """
    return load_config(file, overrides, foreign=lambda root: _converted(root, overrides))


def _converted(root: Node, overrides: Sequence[str]) -> Node | None:
    """What another tool's configuration comes to, unless the bundled plugins are left out."""
    name = f"{BUNDLED}:{DEFAULTS['converter']}"
    provider = next((p for p in Registry().commands if p.qualified == name), None)
    converter: Converter | None = provider.load_object() if provider else None
    return converter.foreign(root, overrides) if converter else None
