"""Deprecated: now `prefloop_testing.samples`."""

from __future__ import annotations

from prefloop.deprecated import moved

__getattr__ = moved(__name__, {"*": "prefloop_testing.samples"})
