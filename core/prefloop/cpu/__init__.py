"""All that exists for mlx's CPU back end: a faster BLAS, two lanes, and NumPy in the place of slow kernels.

On x86 that back end computes ``exp`` one number at a time (10 ns), and NumPy is 25 times faster. The engine
enters here at four places: `blas.use_fastest` before mlx is imported, `attention.inference_attention` around
forward passes without a gradient, `lanes` around scoring, and `kernels`, where tokens are sampled and where
their terms are computed.
"""

from __future__ import annotations

import platform


def on_cpu() -> bool:
    """Whether mlx computes with its CPU back end."""
    import mlx.core as mx  # `blas` has to come before it

    return mx.default_device().type == mx.DeviceType.cpu


def slow_exp() -> bool:
    """Whether mlx computes on x86, where its CPU back end takes ``exp`` one number at a time."""
    return on_cpu() and platform.machine().lower() in ("x86_64", "amd64")
