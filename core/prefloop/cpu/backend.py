"""Which back end mlx computes with, and whether its ``exp`` is slow there."""

from __future__ import annotations

import platform

import mlx.core as mx


def on_cpu() -> bool:
    """Whether mlx computes with its CPU back end."""
    return mx.default_device().type == mx.DeviceType.cpu


def slow_exp() -> bool:
    """Whether mlx computes on x86, where its CPU back end takes ``exp`` one number at a time."""
    return on_cpu() and platform.machine().lower() in ("x86_64", "amd64")
