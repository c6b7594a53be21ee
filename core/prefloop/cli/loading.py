"""How commands load a configuration: observers are added, and one of another tool is converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from prefloop.cli.reporting import reports
from prefloop.config import load_config
from prefloop.registry import BUNDLED, DEFAULTS, Registry

if TYPE_CHECKING:
    from prefloop.config import Config
    from prefloop.config.load import Override
    from prefloop.config.yaml_nodes import Node


class Converter(Protocol):
    """What the command that converts can do besides."""

    def foreign(self, root: Node, overrides: Sequence[Override]) -> Node | None:
        """The nodes of another tool's configuration as prefloop's, said to the user; None for any other."""


class Loader:
    """Loads configurations, each converted first where another tool reads it; that is said once of a file.

    `report_to` names observers to add. Raises `UserError` like `load_config`, for what cannot be converted,
    and where there is no such observer.
    """

    def __init__(self, report_to: str = "") -> None:
        self.report_to = report_to
        self._converted: dict[str, Node | None] = {}

    def __call__(self, file: Path, overrides: Sequence[str | Override]) -> Config:
        settings = load_config(file, overrides, foreign=self._once)
        added = reports(settings, self.report_to)
        return load_config(file, [*overrides, *added], foreign=self._once) if added else settings

    def _once(self, root: Node, overrides: Sequence[Override]) -> Node | None:
        name = root.place.source
        if name not in self._converted:
            self._converted[name] = _convert(root, overrides)
        return self._converted[name]


def _convert(root: Node, overrides: Sequence[Override]) -> Node | None:
    """What another tool's configuration comes to, unless the bundled plugins are left out."""
    name = f"{BUNDLED}:{DEFAULTS['converter']}"
    provider = next((p for p in Registry().commands if p.qualified == name), None)
    converter: Converter | None = provider.load_object() if provider else None
    return converter.foreign(root, overrides) if converter else None
