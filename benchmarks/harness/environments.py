"""Virtual environments with pinned versions, made where they are missing and kept outside the repository."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
"""One file of pins for each tool."""
COMPLETE = "requirements.txt"
"""An environment that has this file is complete."""
CACHE = Path(tempfile.gettempdir()) / "prefloop-benchmarks"
"""Where environments, models and finished runs are kept, unless a command is told otherwise."""


def interpreter(tool: str, cache: Path, *, as_here: Collection[str] = ()) -> str:
    """The Python interpreter of an environment that has `tool`, installed where it is missing.

    Distributions in `as_here` get the version that is installed here instead of the pinned one. The
    environment is named after all versions, so that other pins make another one.
    """
    pins = requirements(tool, as_here)
    place = _place(tool, cache, pins)
    python = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    complete = place / COMPLETE
    if not complete.exists():
        print(f"Installing {tool} into {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        wanted = place / "wanted.txt"
        wanted.write_text(pins, encoding="utf-8")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True)
        wanted.rename(complete)
    return str(python)


def is_installed(tool: str, cache: Path, *, as_here: Collection[str] = ()) -> bool:
    """Whether `interpreter` would find that environment, and install nothing."""
    return (_place(tool, cache, requirements(tool, as_here)) / COMPLETE).exists()


def _place(tool: str, cache: Path, pins: str) -> Path:
    key = hashlib.sha256(f"{sys.version}\n{pins}".encode()).hexdigest()[:8]
    return cache / "environments" / f"{tool}-{key}"


def requirements(tool: str, as_here: Collection[str] = ()) -> str:
    """The pins of a tool, with the versions of `as_here` taken from this environment."""
    text = (REQUIREMENTS / f"{tool}.txt").read_text(encoding="utf-8")
    for name, version in installed(as_here).items():
        text = re.sub(rf"^{re.escape(name)}==[^\s;]+", f"{name}=={version}", text, flags=re.MULTILINE)
    return text


def installed(names: Collection[str]) -> dict[str, str]:
    """The versions of those distributions that are installed here."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
