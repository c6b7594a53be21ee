"""A faster BLAS for mlx's CPU build on Linux, and one BLAS thread for small products.

The Linux wheel links a reference BLAS. A library that exports the same functions takes its place if it is
loaded first, with global symbols. Nothing else about mlx changes.

A step of sampling multiplies a few rows by each weight. A second thread hardly helps there, and it takes the
core that prepares the next step: with two cores, sampling from small models is a quarter faster without it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prefloop.cpu import on_cpu

if TYPE_CHECKING:  # this module is imported before mlx
    import mlx.nn as nn

REMEDY = "pip install 'prefloop[cpu]', or apt install libopenblas0-pthread on Debian and Ubuntu"
_SYSTEM = ("openblas", "mkl_rt", "blis")
# A wheel that carries a whole OpenBLAS under its usual symbol names; the extra ``cpu`` brings it.
_WHEEL = "faiss-cpu"
# What such an OpenBLAS needs from the folder it lies in.
_COMPANIONS = ("libquadmath", "libgfortran", "libgomp")

SMALL = 1 << 24
"""One thread is used if an average product of the model has fewer multiplications."""


def uses_linux_cpu_backend() -> bool:
    """Whether mlx computes with its CPU build for Linux."""
    if sys.platform != "linux":
        return False
    names = {d.name for d in importlib.metadata.distributions() if d.name}
    return "mlx-cpu" in names and not any(name.startswith("mlx-cuda") for name in names)


def use_fastest() -> str | None:
    """Load the first faster BLAS that is found and return its path, or None.

    Call it before mlx is imported; later, and on other back ends, it does nothing. ``PREFLOOP_BLAS=off``
    turns it off, and ``PREFLOOP_BLAS=/path/to/lib.so`` names the library.
    """
    if os.environ.get("PREFLOOP_BLAS", "").lower() == "off" or "mlx.core" in sys.modules:
        return None
    if not uses_linux_cpu_backend():
        return None
    return next((library for library in _candidates() if _load(library)), None)


def _load(library: str) -> bool:
    folder = Path(library).parent
    # An OpenMP build spins while it waits, which starves whatever else the machine is doing.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        for companion in _COMPANIONS if folder.name.endswith(".libs") else ():
            for path in folder.glob(f"{companion}*"):
                ctypes.CDLL(str(path))
        loaded = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return hasattr(loaded, "cblas_sgemm")


def _candidates() -> Iterator[str]:
    if named := os.environ.get("PREFLOOP_BLAS"):
        yield named
        return
    for name in _SYSTEM:
        if found := ctypes.util.find_library(name):
            yield found
    with suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files(_WHEEL) or []:
            if file.name.startswith("libopenblas"):
                yield str(Path(str(file.locate())).resolve())


@contextmanager
def limit_threads(model: nn.Module, rows: int) -> Iterator[None]:
    """Within, OpenBLAS has one thread if `rows` make small products with the model's weights.

    With another library, or on another back end, this does nothing.
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
    """The library that mlx computes with, if that is OpenBLAS. Its symbols are global."""
    if sys.platform != "linux" or not on_cpu():
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "openblas_set_num_threads") else None


def _small(model: nn.Module, rows: int) -> bool:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    sizes = [v.size for v in weights.values() if v.ndim == 2 and v.dtype == mx.float32]
    return bool(sizes) and rows * sum(sizes) / len(sizes) < SMALL
