"""Fixtures shared by all tests. Nothing is downloaded: tiny models are built once a session.

The root's conftest.py comes first: it keeps the Hub out and loads a fast BLAS.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.tiny_models import ModelFolder


pytest.register_assert_rewrite("support")


@pytest.fixture(autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports from a temporary folder is forgotten: the next has files of the same name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before, temporary = set(sys.modules), str(tmp_path_factory.getbasetemp())
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(temporary):
            del sys.modules[name]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """``model_folder("llama")``: a tiny model of that family."""
    from support.tiny_models import build

    built: dict[str, Path] = {}

    def folder(family: str = "qwen3") -> Path:
        if family not in built:
            built[family] = build(tmp_path_factory.mktemp("models") / family, family)
        return built[family]

    return folder
