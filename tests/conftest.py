"""Fixtures shared by all tests. Nothing is downloaded: tiny models are built once a session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tiny_models import ModelFolder

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"

from prefloop import blas

blas.use_fastest()  # before any test imports mlx


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """``model_folder("llama")``: a tiny model of that family."""
    from tiny_models import build

    built: dict[str, Path] = {}

    def folder(family: str = "qwen3") -> Path:
        if family not in built:
            built[family] = build(tmp_path_factory.mktemp("models") / family, family)
        return built[family]

    return folder
