"""Writes a new plugin package: one working component of a kind, with tests, that its author goes on from.

What is written stands in ``templates/`` as it will be, but for the names; in those files ``$$`` is a dollar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from importlib import resources
from pathlib import Path
from string import Template

from attrs import frozen

import prefloop
from prefloop.cli import main
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, KINDS, Registry

LONGEST = 28
_COMMON = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    ".gitignore": "gitignore",
    ".github/workflows/ci.yml": "ci.yml",
    "src/$module/__init__.py": "init.py",
}
_OF_KIND = {"src/$module/$kind.py": "component.py", "tests/test_$kind.py": "test.py"}
_OF_A_COMMAND = {"src/$module/__init__.py": "command/init.py", "README.md": "command/README.md"}
"""A command is registered and used otherwise than a component."""
_EMPTY = "src/$module/py.typed"
NEW = (*KINDS, "command")
"""What a package can be begun for."""
_IN_YAML = {"bonus": "bonuses: [$name]", "observer": "observers: [$name]"}


@frozen
class Package:
    """What was written."""

    folder: Path
    files: tuple[Path, ...]


def write(kind: str, name: str, folder: Path) -> Package:
    """Write the package ``prefloop-KIND-NAME`` below `folder`.

    Raises `UserError` where the name cannot be one, is taken by a bundled component, or where the package's
    folder is already there: nothing is ever overwritten.
    """
    _check_name(kind, name)
    names = _names(kind, name)
    root = folder / names["distribution"]
    if root.exists():
        raise UserError(
            f"there is already a '{root}', and nothing is overwritten. Choose another name, or another place "
            "with --folder."
        )
    texts = {_fill(path, names): text for path, text in _texts(kind, names).items()}
    try:
        for path, text in texts.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"'{root}' cannot be written: {error.strerror or error}.") from error
    return Package(root, tuple(root / path for path in texts))


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or len(name) > LONGEST:
        raise UserError(
            f"'{name}' cannot be the name of a {kind}: use small letters and digits, words joined by a "
            f"hyphen, {LONGEST} characters at most, such as 'near-length'."
        )
    if (taken := _names(kind, name)["Class"]) in prefloop.__all__:
        raise UserError(
            f"a {kind} '{name}' would be the class {taken}, as prefloop's own is. Choose another name."
        )
    registry = Registry()
    offered = registry.commands if kind == "command" else registry.of_kind(kind)
    bundled = {p.name for p in offered if p.distribution == BUNDLED}
    if kind == "command":
        bundled.update(main.commands)
    if name in bundled:
        raise UserError(
            f"there is a bundled {kind} '{name}', and bundled names win: yours would only be found by its "
            "qualified name. Choose another name."
        )


def _names(kind: str, name: str) -> Mapping[str, str]:
    words = re.split("[-_]", name)
    distribution = "-".join(["prefloop", kind, *words])
    return {
        "kind": kind,
        "Kind": kind.capitalize(),
        "hook": KINDS[kind].hook if kind in KINDS else "prefloop_commands",
        "name": name,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "Class": "".join(word.capitalize() for word in [*words, kind]),
        "library": "click>=8.1.7" if kind == "command" else "attrs>=24.2",
        "yaml": _fill(_IN_YAML.get(kind, "$kind: $name"), {"kind": kind, "name": name}),
        "year": str(date.today().year),
    }


def _texts(kind: str, names: Mapping[str, str]) -> dict[str, str]:
    """The text of every file by its path, which may hold names to be filled in."""
    files = {path: f"common/{source}" for path, source in _COMMON.items()}
    files |= {path: f"{kind}/{source}" for path, source in _OF_KIND.items()}
    files |= _OF_A_COMMAND if kind == "command" else {}
    templates = resources.files(__name__) / "templates"
    texts = {p: (templates / f"{s}.txt").read_text(encoding="utf-8") for p, s in files.items()}
    return {path: _fill(text, names) for path, text in texts.items()} | {_EMPTY: ""}


def _fill(text: str, names: Mapping[str, str]) -> str:
    return Template(text).substitute(names)
