"""`load_config`: a file or mapping, overrides and the algorithm's preset to checked settings."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve, frozen

from prefloop import embedded
from prefloop.components import Algorithm, Judge
from prefloop.config.components import PRESET, ComponentLookup, preset_of
from prefloop.config.options import Option, element_of, is_list, members, option_called, options_of
from prefloop.config.schema import Config, cross_checks
from prefloop.config.structure import Structurer, options_below
from prefloop.config.yaml_nodes import (
    InvalidError,
    KeyPath,
    Node,
    Place,
    Problem,
    collected,
    from_plain,
    in_words,
    read_file,
    read_text,
)
from prefloop.deprecated import FormerKeyWarning
from prefloop.errors import UserError, did_you_mean, first_few
from prefloop.registry import DEFAULTS, Origin, Registry, canonical, origin_of

T = TypeVar("T")
_INDEX = re.compile("[0-9]{1,9}")
APPEND = "+"
"""In the place of an index, as in ``observers.+=NAME``: one more entry."""
ConfigSource = str | os.PathLike[str] | Mapping[str, Any]
Foreign = Callable[[Node, Sequence["Override"]], Node | None]
"""Makes the nodes of a file that another tool reads into prefloop's, as these overrides change it; None for
any other file."""


def load_config(
    path_or_mapping: ConfigSource | Node,
    overrides: Sequence[str | Override] = (),
    *,
    registry: Registry | None = None,
    foreign: Foreign | None = None,
) -> Config:
    """The configuration in a YAML file or a mapping, with overrides such as ``judge.temperature=0.2``.

    Components come from `registry`, or from all plugins that are installed and not disabled. A file with a
    key that prefloop does not have is shown to `foreign` first. A key or value under a former name is a
    `DeprecationWarning`. Raises `UserError` with every problem that was found, one line each.
    """
    loading = _Loading(overrides, foreign)
    return loading.run(path_or_mapping, registry, loading.resolve)


def load_judge(
    path_or_name: str,
    overrides: Sequence[str] = (),
    *,
    registry: Registry | None = None,
    source: str | None = None,
) -> tuple[Judge, Origin]:
    """The judge of a configuration file, in which nothing else need be written; or a judge as one writes
    it there in one word, such as ``rule`` or ``embedded:judge``. A file is what ends in .yaml or .yml.

    Of a mixture of prompts, `source` names the one whose judge it is. Also where it comes from. Overrides are
    those of `load_config` that concern the judge; whatever else the file holds is checked too. Warns and
    raises like `load_config`.
    """
    loading = _Loading(overrides)
    for override in loading.overrides:
        if override.path[0] not in ("judge", "algorithm", "plugins", *(["prompts"] if source else [])):
            message = "has no effect here, as only the judge is used."
            loading.problems.append(Problem(override.value.place, override.path, message))
    path = Path(embedded.resolve(path_or_name))
    if path.suffix.lower() in (".yaml", ".yml"):
        given: ConfigSource | Node = path
    else:
        named = Node(path_or_name, Place("judge", path=("judge",)), ("judge",))
        given = Node({"judge": named}, Place("judge"))
    judge = loading.run(given, registry, lambda: loading.resolve_judge(source))
    return judge, origin_of(judge, "judge", loading.components.origins)


def type_at(
    path_or_mapping: ConfigSource,
    key: KeyPath,
    overrides: Sequence[str | Override] = (),
    *,
    registry: Registry | None = None,
) -> Any:
    """The type of the option at a key path of a configuration, whatever else is wrong with that.

    None where there is no such option. Raises `UserError` where the file cannot be read at all.
    """
    loading = _Loading(overrides)
    with collected(loading.problems):
        loading.begin(path_or_mapping, registry)
        loading.lay_out()
    return loading.type_at(key)


@frozen
class Override:
    """One key path and the value to put there."""

    path: KeyPath
    value: Node

    @property
    def has_index(self) -> bool:
        return any(part == APPEND or _INDEX.fullmatch(part) for part in self.path)


def parse_override(text: str, option: str = "--set") -> Override:
    """``a.b.c=VALUE``, the value in YAML. Raises `UserError` where it is not of that form."""
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"{option} {text}: must have the form KEY.PATH=VALUE, such as loss.beta=0.2.")
    node, problems = read_text(value, Place(f"{option} {text}", path=path))
    if problems:
        raise UserError(*map(str, problems))
    return Override(path, node)


def _beside(node: Node) -> str:
    """A sentence about a file that a path misses and that lies beside the configuration; else nothing."""
    with suppress(OSError, ValueError, UserError):
        path = Path(node.place.source).parent / node.value
        if path.is_file() and not embedded.local_path(node.value).exists():
            return f" The one beside the configuration is '{path}'."
    return ""


def _in_order(problems: Iterable[Problem]) -> list[str]:
    """Each problem once, in the order of lines; those without one come last."""
    return list(map(str, sorted(dict.fromkeys(problems), key=lambda problem: problem.place.line or math.inf)))


class _Loading:
    """One configuration on its way from nodes to settings. What is wrong with it goes into `problems`."""

    def __init__(self, overrides: Sequence[str | Override], foreign: Foreign | None = None) -> None:
        self.foreign = foreign
        self.components = ComponentLookup()
        self.overrides = [o if isinstance(o, Override) else parse_override(o) for o in overrides]
        self.problems: list[Problem] = []
        self.root = Node({}, Place(""))

    def run(self, source: ConfigSource | Node, registry: Registry | None, resolve: Callable[[], T]) -> T:
        """What `resolve` makes of a source. Raises `UserError` with all problems, warns of former keys."""
        with collected(self.problems):
            self.begin(source, registry)
            resolved = resolve()
        if self.problems:
            raise UserError(*first_few(_in_order(map(self._blamed, self.problems)), shown=20))
        for former in _in_order(self.components.former):
            warnings.warn(former, FormerKeyWarning, stacklevel=3)  # to whoever loads the configuration
        return resolved

    def begin(self, source: ConfigSource | Node, registry: Registry | None) -> None:
        """Read a source, and see which plugins take part."""
        self.root = self.components.expand(self._read(source), Config)
        self._choose_plugins(registry)

    def _blamed(self, problem: Problem) -> Problem:
        """A problem of the packaged file, which is right by itself, at the overrides that brought it."""
        if problem.place.source != embedded.resolve("embedded:quickstart"):
            return problem
        beside = [o.value.place for o in self.overrides if o.path[:1] == problem.path[:1]]
        places = beside or [o.value.place for o in self.overrides]
        return evolve(problem, place=Place(" ".join(dict.fromkeys(map(str, places))))) if places else problem

    def _read(self, source: ConfigSource | Node) -> Node:
        if isinstance(source, Node):
            return source
        if isinstance(source, Mapping):
            return from_plain(source, Place("configuration"))
        root, found = read_file(Path(source))
        self.problems += found
        if self.foreign and not options_of(Config).keys() >= (root.mapping or {}).keys():
            return self.foreign(root, self.overrides) or root
        return root

    def _choose_plugins(self, registry: Registry | None) -> None:
        """Honour ``plugins.disable`` before any plugin is imported, and load ``plugins.files`` after those.

        Raises `InvalidError` where one of these files cannot be: what it offers is missing everywhere.
        """
        self._override("plugins")
        plugins = self._get("plugins")
        disable = (plugins.mapping or {}).get("disable") if plugins else None
        named = [n for n in (disable.items or ()) if isinstance(n.value, str)] if disable else []
        names = {canonical(node.value) for node in named}
        chosen = registry is not None
        if registry is None:
            registry = Registry(disable=names)
        elif disable and not names <= registry.disabled:
            self._report(disable, "has no effect on the plugins that the program chose.")
        for node in named:
            if canonical(node.value) not in registry.installed:
                hint = did_you_mean(node.value, registry.installed)
                self._report(node, f"no plugin '{node.value}' is installed.{hint}")
        self.components.registry = registry
        files = (plugins.mapping or {}).get("files") if plugins else None
        given = [n for n in (files.items or ()) if isinstance(n.value, str)] if files else []
        failed = [node for node in given if not self._add_file(registry, node, chosen)]
        if failed:
            raise InvalidError()

    def _add_file(self, registry: Registry, node: Node, chosen: bool) -> bool:
        """Whether the components in a Python file could be taken in; what is wrong is reported."""
        try:
            if chosen and node.value not in registry.files:
                raise UserError("has no effect on the plugins that the program chose.")
            if not chosen:
                registry.add_file(node.value)
        except UserError as error:
            self._report(node, f"{error}{_beside(node)}")
            return False
        return True

    def resolve(self) -> Config:
        """The configuration. Raises `InvalidError`."""
        config = Config(**self._values(options_of(Config)), origins=self.components.origins)
        for path, message in cross_checks(config, self.components.registry):
            self.problems.append(Problem(self._nearest(path).place, path, message))
        return config

    def resolve_judge(self, source: str | None = None) -> Judge:
        """The judge alone, or that of one source of prompts, of a configuration of which the rest may be
        missing. Raises `InvalidError` and `UserError`.
        """
        options = options_of(Config)
        others = {n: evolve(o, default=None) for n, o in options.items() if o.required and n != "judge"}
        values = self._values(options | others)
        judge: Judge = values["judge"]
        if source is None:
            return judge
        prompts = values.get("prompts")
        judges = {one.called: one.judge or judge for one in prompts} if isinstance(prompts, tuple) else {}
        if source not in judges:
            raise UserError(f"prompts: there is no source '{source}'.{did_you_mean(source, judges)}")
        return judges[source]

    def _nearest(self, path: tuple[str, ...]) -> Node:
        """The node at a path, or the nearest above it that was written."""
        node = self.root
        for key in path:
            children = {str(i): item for i, item in enumerate(node.items or ())} | (node.mapping or {})
            if key not in children:
                break
            node = children[key]
        return node

    def lay_out(self) -> bool:
        """Put overrides and the algorithm's preset in; returns whether the algorithm is right."""
        written = self._get("algorithm")
        self._override("algorithm")
        preset = self._preset()
        for key in dict.fromkeys(override.path[0] for override in self.overrides):
            if key not in ("plugins", "algorithm"):
                self._override(key, preset or {})
        if preset is not None:
            self._take_judge_of_sources()
            self._overlay_all(preset, written)
        return preset is not None

    def type_at(self, path: KeyPath) -> Any:
        """The type of the option at a key path; None where there is none."""
        node, hint = self.root, Config
        for key in path:
            node = self.components.expand(node, hint)
            if node.items is not None or (node.mapping is None and is_list(hint)):
                child = dict(enumerate(node.items or ())).get(int(key)) if _INDEX.fullmatch(key) else None
                hint = element_of(hint)
            else:
                option = option_called(key, options_below(node, hint, self.components))
                child = (node.mapping or {}).get(option.name if option else key)
                hint = option.type if option else element_of(hint)
            if hint is None:
                return None
            node = child or Node(None, node.place, (*node.path, key))
        return hint

    def _values(self, options: dict[str, Option]) -> dict[str, Any]:
        if self.lay_out():
            return Structurer(self.components, self.root).fill(self.root, options)
        # What is wrong with it is reported already, and what it would have set is not missing.
        options |= {key: evolve(options[key], default=None) for key in PRESET}
        unknown = ["algorithm", *(key for key in PRESET if self._leans_on_preset(key))]
        options |= {key: evolve(options[key], type=Any) for key in unknown}
        Structurer(self.components, self.root).fill(self.root, options)
        raise InvalidError()

    def _take_judge_of_sources(self) -> None:
        """Where every source of prompts has a judge and the run has none, that of the first is the run's."""
        prompts = self._get("prompts")
        judges = [(item.mapping or {}).get("judge") for item in (prompts.items if prompts else None) or ()]
        own = [judge for judge in judges if judge is not None and judge.value is not None]
        if own and len(own) == len(judges) and self._get("judge") is None:
            self.root = self.root.replaced("judge", own[0])

    def _override(self, key: str, preset: Mapping[str, Node] = {}) -> None:
        """Put the overrides below `key` in. An index may point into what the preset sets."""
        overrides = [override for override in self.overrides if override.path[0] == key]
        if key in preset and any(override.has_index for override in overrides):
            self._overlay(key, preset)
        for override in overrides:
            with collected(self.problems):
                self.root = self._put(self.root, Config, override.path, override.value)

    def _put(self, node: Node, hint: Any, path: KeyPath, value: Node) -> Node:
        """The node with `value` at a path below it, short forms on the way written out."""
        if not path:
            return value
        node = self.components.expand(node, hint)
        key, rest = path[0], path[1:]
        if node.items is not None:
            items = list(node.items)
            if key == APPEND and not rest:
                return evolve(node, value=(*items, evolve(value, path=(*node.path, str(len(items))))))
            if not _INDEX.fullmatch(key) or int(key) >= len(items):
                known = f"a number from 0 to {len(items) - 1}" if items else "an entry, but the list is empty"
                raise InvalidError.at(value, f"'{key}' must be {known}.")
            items[int(key)] = self._put(items[int(key)], element_of(hint) or Any, rest, value)
            return evolve(node, value=tuple(items))
        if node.value is None and key == APPEND and any(map(is_list, members(hint))):
            return self._put(evolve(node, value=()), hint, path, value)
        if node.value is None:
            node = evolve(node, value={})
        if node.mapping is None:
            above = ".".join(node.path)
            raise InvalidError.at(value, f"'{above}' is {in_words(node)}, so nothing can be set below it.")
        option = option_called(key, self.components.options_at(node, hint))
        if option is not None and key != option.name:
            self.components.note_former_key(Node(None, value.place, (*node.path, key)), option)
            key = option.name
        below = option.type if option else element_of(hint) or Any
        child = node.mapping.get(key) or Node(None, value.place, (*node.path, key))
        return node.replaced(key, self._put(child, below, rest, value))

    def _overlay_all(self, preset: Mapping[str, Node], written: Node | None) -> None:
        """The preset below what is given. An algorithm chosen on the command line must change something of a
        file that spells all out.
        """
        before = [self._plain(key) for key in PRESET]
        for key in PRESET:
            self._overlay(key, preset)
        chosen = any(override.path[0] == "algorithm" for override in self.overrides)
        if not chosen or before != [self._plain(key) for key in PRESET]:
            return
        node = self._nearest(("algorithm",))
        if written is None or not self.components.same(Algorithm, written, node):
            keys = ", ".join(PRESET)
            self._report(node, f"changes nothing, as the file sets {keys} itself. Remove some there.")

    def _overlay(self, key: str, preset: Mapping[str, Node]) -> None:
        with collected(self.problems):
            node = self.components.overlay(PRESET[key], preset.get(key), self._get(key))
            if node is not None:
                self.root = self.root.replaced(key, node)

    def _preset(self) -> Mapping[str, Node] | None:
        """What the algorithm sets, with the default algorithm where none is named; None where it is wrong."""
        default = Node(DEFAULTS["algorithm"], self.root.place, ("algorithm",))
        with collected(self.problems):
            overlaid = self.components.overlay(Algorithm, default, self._get("algorithm"))
            node = self.components.expand(overlaid or default, Algorithm)
            self.root = self.root.replaced("algorithm", node)
            algorithm = Structurer(self.components, self.root).structure(node, Algorithm)
            return preset_of(algorithm, self.components.use_of(node, "algorithm").value, node)
        return None

    def _leans_on_preset(self, key: str) -> bool:
        """Whether options are given for whichever component the preset uses."""
        node = self._get(key)
        return node is not None and node.mapping is not None and "use" not in node.mapping

    def _plain(self, key: str) -> Any:
        node, hint = self._get(key), PRESET[key]
        return None if node is None else self.components.expand(node, hint).plain

    def _get(self, key: str) -> Node | None:
        return (self.root.mapping or {}).get(key)

    def _report(self, node: Node, message: str) -> None:
        self.problems.append(Problem(node.place, node.path, message))
