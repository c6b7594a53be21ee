"""A run as those see it who only look: read from its files, which may still be written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from prefloop.config.yaml_nodes import read_file

CONFIG = "config.yaml"


class RunView:
    """A run directory, to be read."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def status(self) -> str:
        """``running``, ``finished``, ``stopped`` (by a person or a signal) or ``failed``."""
        return str(self.manifest["status"])

    @property
    def summary(self) -> dict[str, Any]:
        """What the run came to; ``win_rate`` holds ``before`` and ``after``."""
        found: dict[str, Any] = self.manifest["summary"]
        return found

    @property
    def plan_lines(self) -> list[tuple[str, str]]:
        """What the run is going to do, as titles and texts."""
        return []

    @property
    def asks_a_person(self) -> bool:
        """Whether its judge is a person, who needs the terminal."""
        return bool(self.manifest.get("asks_a_person"))

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Its configuration, with every default, as plain values."""
        found: Mapping[str, Any] = read_file(self.path / CONFIG)[0].plain
        return found
