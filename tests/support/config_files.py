"""Configuration files to load, and what loading them complains about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefloop.config import load_config
from prefloop.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


class Files:
    """Writes configuration files, and collects what loading one complains about."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "c.yaml"

    def write(self, text: str) -> Path:
        self.path.write_text(text, "utf-8")
        return self.path

    def problems(self, text: str, *overrides: str) -> list[str]:
        with pytest.raises(UserError) as caught:
            load_config(self.write(text), overrides)
        return [line.replace(str(self.path), "c.yaml") for line in caught.value.problems]
