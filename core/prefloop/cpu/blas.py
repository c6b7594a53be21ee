"""A faster BLAS for mlx's CPU build on Linux.

The Linux wheel links a reference BLAS. A library that exports the same functions takes its place if it is
loaded first, with global symbols. Nothing else about mlx changes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

REMEDY = "pip install 'prefloop[cpu]', or apt install libopenblas0-pthread on Debian and Ubuntu"
_SYSTEM = ("openblas", "mkl_rt", "blis")
# A wheel that carries a whole OpenBLAS under its usual symbol names; the extra ``cpu`` brings it.
_WHEEL = "faiss-cpu"
# What such an OpenBLAS needs from the folder it lies in.
_COMPANIONS = ("libquadmath", "libgfortran", "libgomp")
_AVX512 = {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"}
_in_use: dict[str, ctypes.CDLL] = {}


@cache
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
    if kernel := kernel_of(_processor()):
        os.environ.setdefault("OPENBLAS_CORETYPE", kernel)
    try:
        for companion in _COMPANIONS if folder.name.endswith(".libs") else ():
            for path in folder.glob(f"{companion}*"):
                ctypes.CDLL(str(path))
        loaded = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    if not hasattr(loaded, "cblas_sgemm"):
        return False
    _in_use[library] = loaded
    return True


def kernel_of(processor: str) -> str | None:
    """The kernel that OpenBLAS has to be told to take, or None; `processor` is what ``/proc/cpuinfo`` says.

    The wheel's build has no kernels for Intel's processors after Skylake, and takes one without AVX there,
    which is four times slower than Skylake's.
    """
    lines = dict(line.partition(":")[::2] for line in processor.splitlines())
    told = {name.strip(): value.split() for name, value in lines.items()}
    is_intel = told.get("vendor_id") == ["GenuineIntel"]
    return "SkylakeX" if is_intel and _AVX512.issubset(told.get("flags", ())) else None


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def described() -> dict[str, str]:
    """The BLAS in the place of mlx's own, its kernel and its threads; empty on other back ends."""
    if not uses_linux_cpu_backend():
        return {}
    for library, loaded in _in_use.items():
        told = {"blas": Path(library).name}
        with suppress(AttributeError):  # only an OpenBLAS tells
            loaded.openblas_get_corename.restype = ctypes.c_char_p
            told["kernel"] = loaded.openblas_get_corename().decode()
            told["threads"] = str(loaded.openblas_get_num_threads())
        return told
    return {"blas": "mlx's own"}


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
