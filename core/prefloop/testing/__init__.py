"""Deprecated: the conformance kit for plugin authors is now the package `prefloop_testing`."""

from __future__ import annotations

from prefloop.deprecated import moved

__getattr__ = moved(__name__, {"*": "prefloop_testing"})
