"""Fixtures: the plugins of `support.fake_plugins` in place of the installed ones, and files to load."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import pytest

from prefloop.registry import Registry
from support.config_files import Files
from support.fake_plugins import Acme, Bundled, EntryPoint, Rival

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugins above, instead of those that are really installed."""
    points = [EntryPoint("prefloop", Bundled()), EntryPoint("acme", Acme()), EntryPoint("rival", Rival())]
    points.append(EntryPoint("shaky", ImportError("no module named 'shaky'")))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)
    monkeypatch.delenv("PREFLOOP_DISABLE", raising=False)
    monkeypatch.delenv("PREFLOOP_STRICT_PLUGINS", raising=False)


@pytest.fixture
def registry(installed: None) -> Registry:
    return Registry()


@pytest.fixture
def files(tmp_path: Path, installed: None) -> Files:
    return Files(tmp_path)
