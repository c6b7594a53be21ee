"""`prefloop plugins install`: into the environment that prefloop runs in, and never unasked."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LENGTH = Path(__file__).resolve().parent.parent / "contrib" / "prefloop-judge-length"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_CACHE_DIR": "1"}
"""pip reads 0 as yes where an option begins with no."""


def plugins(python: str | Path, *arguments: str) -> tuple[int, str, str]:
    """`prefloop plugins` in an environment, with nobody at the keyboard."""
    command = [str(python), "-m", "prefloop", "plugins", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | OFFLINE,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("install", "./somewhere"),
            f"Install './somewhere' in {sys.prefix}? There is nobody to ask: add --yes.",
        ),
        (("install", "--yes", "--", "--index-url=x"), "'--index-url=x' is no package"),
        (("uninstall", "prefloop", "--yes"), "no plugin 'prefloop' is installed."),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], said: str) -> None:
    code, printed, error = plugins(sys.executable, *arguments)
    assert (code, printed) == (2, "")
    assert error.startswith(f"error: {said}") and error.count("\n") == 1


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a fresh environment with a pip of its own, which sees the packages of this one besides."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "others.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_folder_is_installed_shown_and_removed(python: Path) -> None:
    """Into that environment and no other."""
    code, printed, said = plugins(python, "install", str(LENGTH), "--yes")
    assert code == 0, said
    rows = [line.split() for line in printed.splitlines()]
    assert rows == [
        ["judge", "prefloop-judge-length:length-controlled", "0.1.0"],
        ["judge", "prefloop-judge-length:near-length", "0.1.0"],
    ]
    assert f"Install '{LENGTH}' in {python.parent.parent}." in said
    assert "prefloop-judge-length" in distributions(python)
    again: dict[str, Any] = json.loads(plugins(python, "install", str(LENGTH), "--yes", "--json")[1])
    assert (again["environment"], again["components"]) == (str(python.parent.parent), [])
    code, printed, said = plugins(python, "uninstall", "prefloop-judge-length", "--yes")
    assert (code, printed) == (0, "Removed prefloop-judge-length.\n"), said
    assert "prefloop-judge-length" not in distributions(python)


@pytest.mark.slow
def test_what_pip_cannot_do_is_an_error(python: Path, tmp_path: Path) -> None:
    before = distributions(python)
    code, printed, said = plugins(python, "install", str(tmp_path), "--yes")
    assert (code, printed) == (2, "")
    assert f"could not install '{tmp_path}': see what it says above." in said.splitlines()[-1]
    assert distributions(python) == before


def distributions(python: Path) -> set[str]:
    return {row["distribution"] for row in json.loads(plugins(python, "list", "--json")[1])["components"]}
