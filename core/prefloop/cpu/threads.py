"""One BLAS thread for small products.

A step of sampling multiplies a few rows by each weight. A second thread then hardly helps, and it takes the
core on which the next step is being prepared: with two cores, sampling from small models is a quarter faster
without it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from prefloop.cpu.backend import on_cpu
from prefloop.model.weight_sharing import arrays

SMALL = 1 << 24
"""Multiplications of a product, on the average of the model's, below which one thread is used."""


@contextmanager
def limit_threads(model: nn.Module, rows: int) -> Iterator[None]:
    """Within, OpenBLAS has one thread if `rows` make small products with the model's weights.

    Nothing happens where mlx computes elsewhere, or with another library.
    """
    library = _openblas()
    if library is None or not _small(model, rows):
        yield
        return
    before = library.openblas_get_num_threads()
    library.openblas_set_num_threads(1)
    try:
        yield
    finally:
        library.openblas_set_num_threads(before)


def _openblas() -> ctypes.CDLL | None:
    """What mlx computes with, if that is OpenBLAS: its symbols are global."""
    if sys.platform != "linux" or not on_cpu():
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "openblas_set_num_threads") else None


def _small(model: nn.Module, rows: int) -> bool:
    matrices = [v.size for v in arrays(model.parameters()).values() if v.ndim == 2 and v.dtype == mx.float32]
    return bool(matrices) and rows * sum(matrices) / len(matrices) < SMALL
