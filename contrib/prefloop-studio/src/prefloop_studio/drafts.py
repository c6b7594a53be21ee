"""A configuration as it is written in the page: YAML that a form changes and that keeps its comments."""

from __future__ import annotations

import io
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from prefloop import Config, UserError, load_config
from prefloop.config.dump import to_plain
from prefloop.config.yaml_nodes import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROBLEM = re.compile(
    r"(?:\S*draft\.yaml:(?P<line>\d+): )?(?:(?P<path>[\w-]+(?:\.[\w-]+)*): )?(?P<text>.*)", re.S
)


def read(text: str) -> dict[str, Any]:
    """What a draft says: ``written`` as it stands there, ``resolved`` with every default, and ``problems``.

    A problem is ``{"line", "path", "text"}`` in the words of the command line; `resolved` is null where
    there is one.
    """
    with as_file(text) as file:
        written = _written(file)
        try:
            config = load_config(file)
        except UserError as error:
            return {
                "written": written,
                "resolved": None,
                "problems": [_problem(str(p)) for p in error.problems],
            }
    return {"written": written, "resolved": to_plain(config, config.origins), "problems": []}


def resolved(text: str) -> Config:
    """The configuration that a draft is. Raises `UserError`."""
    with as_file(text) as file:
        return load_config(file)


@contextmanager
def as_file(text: str) -> Iterator[Path]:
    """The draft as a file, for what reads only such; gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "draft.yaml"
        file.write_text(text, encoding="utf-8", errors="replace")
        yield file


def edit(text: str, path: Sequence[str], value: Any, *, remove: bool = False) -> str:
    """The draft with `value` at a key path; comments and everything else stay as they are.

    Raises `UserError` where the draft is no YAML, or nothing can be put there.
    """
    editor = _editor()
    root = _parsed(editor, text)
    if remove:
        _remove(root, path)
    else:
        _put(root, path, value)
    written = io.StringIO()
    editor.dump(root, written)
    return written.getvalue() if root else ""


def _editor() -> YAML:
    """Reads plain values only, and keeps what is around them."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    return editor


def _parsed(editor: YAML, text: str) -> CommentedMap:
    try:
        root = editor.load(text)
    except YAMLError as error:
        raise UserError(f"the configuration is no YAML: {str(error).splitlines()[0]}.") from error
    if root is None:
        return CommentedMap()
    if not isinstance(root, CommentedMap):
        raise UserError("the configuration must be a mapping of keys to values.")
    return root


def _put(node: Any, path: Sequence[str], value: Any) -> None:
    """Walk down to where the value belongs; a short form on the way is written out where it has a name."""
    for here, key in enumerate(path[:-1]):
        place = _place(node, key)
        try:
            child = node[place]
        except (LookupError, TypeError):
            child = None
        if not isinstance(child, CommentedMap | CommentedSeq):
            child = _long_form(path[: here + 1], child)
            node[place] = child
        node = child
    try:
        node[_place(node, path[-1])] = value
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{'.'.join(path)}: nothing can be put there.") from error


def _place(node: Any, key: str) -> Any:
    """What a key of a path is in `node`: of a list, a number."""
    return int(key) if isinstance(node, CommentedSeq) and key.isdecimal() else key


def _long_form(path: Sequence[str], short: Any) -> CommentedMap:
    """A mapping in place of a bare value, such as ``{use: rule}`` for ``judge: rule``."""
    if short is None:
        return CommentedMap()
    return CommentedMap({"path" if path[-1] in ("model", "prompts", "output") else "use": short})


def _remove(node: Any, path: Sequence[str]) -> None:
    """Take a key out, and what is empty without it."""
    key = _place(node, path[0])
    try:
        child = node[key]
    except (LookupError, TypeError):
        return
    if len(path) > 1:
        _remove(child, path[1:])
        if not isinstance(child, CommentedMap | CommentedSeq) or child:
            return
    del node[key]


def _written(file: Path) -> Any:
    try:
        root, problems = read_file(file)
    except UserError:
        return None
    return None if problems else root.plain


def _problem(text: str) -> dict[str, Any]:
    found = _PROBLEM.fullmatch(text)
    assert found
    line = found["line"]
    return {"line": int(line) if line else None, "path": found["path"] or "", "text": found["text"]}
