"""Applies the table of a dialect to a file: its settings in prefloop's words, and an account of each key."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from prefloop.config.load import Override
from prefloop.config.options import options_of
from prefloop.config.schema import Config
from prefloop.config.yaml_nodes import InvalidError, Node, Place, Problem, collected, from_plain
from prefloop.errors import UserError, first_few, guess
from prefloop.text import in_a_line
from prefloop_plugins.converting.account import Entry, in_short
from prefloop_plugins.converting.dialect import Dialect
from prefloop_plugins.converting.mlx_lm_lora import MLX_LM_LORA
from prefloop_plugins.converting.rules import UNSET, Given, Made, Rule, needless
from prefloop_plugins.converting.studio import STUDIO
from prefloop_plugins.converting.trl import TRL

DIALECTS = (TRL, STUDIO, MLX_LM_LORA)
"""In the order in which they are asked: a nested file has marks of a flat one, too."""
OURS = frozenset(options_of(Config)) - frozenset().union(*(dialect.known for dialect in DIALECTS))
"""The keys that only prefloop has."""


@frozen
class Conversion:
    """A file of another tool as one of prefloop's: its nodes, which know the lines of the old file."""

    source: str
    dialect: Dialect
    root: Node
    account: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """One line on what it was."""
        return f"{in_a_line(self.source)} is a configuration of {self.dialect.tool}"


def dialect_of(root: Node) -> Dialect | None:
    """The dialect that a file is written in: the one of which it has a mark; None where it has none.

    Raises `UserError` for a file that also has a key which only prefloop has.
    """
    dialect = next((dialect for dialect in DIALECTS if dialect.marks_in(root)), None)
    ours = {key: node.place.line for key, node in (root.mapping or {}).items() if key in OURS}
    if dialect is None or not ours:
        return dialect
    theirs = dialect.marks_in(root)
    raise UserError(
        f"{root.place.source}: mixes two configurations: {_first(ours)} is a key of prefloop, "
        f"{_first(theirs)} one of {dialect.tool}. Keep the keys of one of them; `prefloop config "
        "convert` makes prefloop's of the other."
    )


def convert(root: Node, dialect: Dialect, overrides: Sequence[Override] = ()) -> Conversion:
    """The file in prefloop's words. Raises `UserError` for unknown keys, for what cannot be converted, and
    for settings without which there is no run, unless `overrides` give them.
    """
    given, problems = dialect.given(root), list[Problem]()
    overridden = {".".join(override.path) for override in overrides}
    entries: list[Entry] = []
    made: dict[str, Node] = {}
    for key, node in dialect.flat(root):
        with collected(problems):
            entry = _entry(key, node, dialect, given)
            entries.append(_with_replaced(entry, overridden))
            made |= _nodes(entry.settings, node.place)
    if problems:
        raise UserError(*first_few([str(problem) for problem in problems], shown=20))
    for entry in _added(dialect, given):
        if not entry.settings.keys() & made.keys():
            entries.append(_with_replaced(entry, overridden))
            made |= _nodes(entry.settings, root.place)
    _require(dialect, made, root.place.source, overridden)
    return Conversion(root.place.source, dialect, _tree(made, root.place), tuple(entries))


def _entry(key: str, node: Node, dialect: Dialect, given: Given) -> Entry:
    """What becomes of one key. Raises `InvalidError`."""
    if isinstance(node.value, Problem):
        raise InvalidError(node.value)
    rule = dialect.rules.get(dialect.canonical(key)) or _of_no_key(key, node, dialect)
    made = _made(rule, node, given, key)
    ran_with = made.ran_with
    ignored = rule.ignored_in_a_file and node.plain != rule.ran_with and dialect.ignores(given)
    if ignored and made.settings and not ran_with:
        before = in_short(rule.ran_with)
        ran_with = f"{dialect.trainer} ignores this key in a file: it runs with {before}."
    return Entry(key, node.plain, node.place.line, made.fate, made.settings, made.note, ran_with)


def _of_no_key(key: str, node: Node, dialect: Dialect) -> Rule:
    """The rule for a section without a key in it. Raises `InvalidError` for what is none."""
    message = "must be a mapping."
    if key not in dialect.sections:
        hint = guess(key, {*dialect.rules, *dialect.spellings}) or " Remove it if it is your own."
        message = f"{dialect.tool} has no such key.{hint}"
    elif not node.value:
        return needless("It is empty.")
    raise InvalidError(Problem(node.place, tuple(key.split(".")), message))


def _with_replaced(entry: Entry, overridden: Collection[str]) -> Entry:
    """The entry, which says where the command line takes the place of what the key became."""
    found = [o for o in overridden for path in entry.settings if f"{path}.".startswith(f"{o}.")]
    if not found:
        return entry
    replaced = ", ".join(f"--set {path}" for path in sorted({*found}))
    return evolve(entry, note=f"{entry.note} {replaced} takes its place.".strip(), ran_with="")


def _made(rule: Rule, node: Node, given: Given, key: str) -> Made:
    try:
        return rule(node.plain, given)
    except ValueError as error:
        raise InvalidError(Problem(node.place, tuple(key.split(".")), str(error))) from error


def _added(dialect: Dialect, given: Given) -> Iterator[Entry]:
    """What the tool does where the file says nothing, and prefloop would not."""
    for key, rule in dialect.rules.items():
        if rule.default is not UNSET and key not in given:
            made = rule(rule.default, given)
            if made.settings:
                note = f"It is the default of {key} there. {made.note}".strip()
                yield Entry(key, None, None, "added", made.settings, note)
    for name, made in dialect.habits(given).items():
        yield Entry(name, None, None, "added" if made.settings else made.fate, made.settings, made.note)


def _nodes(settings: Mapping[str, Any], place: Place) -> dict[str, Node]:
    return {path: from_plain(value, place, tuple(path.split("."))) for path, value in settings.items()}


def _tree(made: Mapping[str, Node], place: Place) -> Node:
    """Settings by key path as nested nodes."""
    root = Node({}, place)
    for path, node in made.items():
        root = _put(root, tuple(path.split(".")), node)
    return _in_order(root)


def with_overrides(root: Node, overrides: Sequence[Override]) -> Node:
    """The nodes with what the command line sets."""
    for override in overrides:
        root = _put(root, override.path, override.value)
    return _in_order(root)


def _in_order(root: Node) -> Node:
    """The sections as prefloop's own files have them; a key that is none of them comes last."""
    keys = [*options_of(Config), *(root.mapping or {})]
    return evolve(root, value={key: node for key in keys if (node := (root.mapping or {}).get(key))})


def _put(node: Node, path: Sequence[str], value: Node) -> Node:
    """The node with `value` at a path below it; what is in the way and no mapping gives way."""
    if not path:
        return value
    beneath = (node.mapping or {}).get(path[0]) or Node({}, value.place, (*node.path, path[0]))
    return evolve(
        node, value={**(node.mapping or {}), path[0]: _put(beneath, path[1:], value)}, spelling=None
    )


def _require(dialect: Dialect, made: Mapping[str, Node], source: str, overridden: Collection[str]) -> None:
    """Raises `UserError` for each thing that neither the file nor an override gives."""
    missing = [
        message
        for paths, message in dialect.required.items()
        if not {*overridden} & {*paths, paths[0].partition(".")[0]} and not made.keys() & {*paths}
    ]
    if missing:
        raise UserError(*(f"{source}: {message}" for message in missing))


def _first(lines: Mapping[str, int | None]) -> str:
    key = min(lines, key=lambda key: lines[key] or 0)
    return f"'{key}' (line {lines[key]})"
