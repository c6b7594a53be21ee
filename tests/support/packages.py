"""Packages of plugins, installed as pip leaves them, and prefloop run beside them in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from textwrap import dedent


def write_package(folder: Path, name: str, code: str) -> Path:
    """The sources of a package: one module with `code`, and a pyproject.toml with its entry point."""
    folder.mkdir()
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code.lstrip())
    (folder / "pyproject.toml").write_text(
        dedent(f"""\
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "{name}"
        version = "1.2"
        dependencies = ["prefloop"]

        [project.entry-points.prefloop]
        {name} = "{module}"
        """)
    )
    return folder


def pip_install(target: Path, sources: Iterable[Path]) -> None:
    """Install packages into the folder `target` with pip, offline."""
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", str(target)]
    done = subprocess.run([*pip, *map(str, sources)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def add_metadata(folder: Path, name: str, module: str) -> None:
    """What makes `module` an installed plugin package where `folder` is on the path."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[prefloop]\n{name} = {module}\n")


class Prefloop:
    """The command line in a process of its own, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *arguments: str, path: list[Path], disable: str = ""
    ) -> subprocess.CompletedProcess[str]:
        settings = {"PREFLOOP_DISABLE": disable, "PREFLOOP_STRICT_PLUGINS": "", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "prefloop", *arguments],
            cwd=self.folder,
            env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(map(str, path))},
            capture_output=True,
            text=True,
        )

    def out(self, *arguments: str, path: list[Path]) -> str:
        """What a command prints; it must succeed without a word on standard error."""
        done = self(*arguments, path=path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout
