"""What NumPy does in the place of mlx's CPU back end, on x86 processors.

There mlx takes ``exp`` one number at a time (10 ns), and NumPy is 25 times faster.
"""

from __future__ import annotations

import platform

import mlx.core as mx


def on_cpu() -> bool:
    """Whether mlx computes with its CPU back end."""
    return mx.default_device().type == mx.DeviceType.cpu


def slow_exp() -> bool:
    """Whether mlx computes on a processor where its ``exp`` is that slow."""
    return on_cpu() and platform.machine().lower() in ("x86_64", "amd64")
