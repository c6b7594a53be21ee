"""Finds components and commands: which plugins are installed, what they offer, and under which names.

A name is written short or as ``distribution:name``. The bundled short names always win, so installing a
package never changes what an existing configuration means. A plugin that fails to import is set aside and
listed as broken; it hurts nobody else. One file of Python that a configuration names is a plugin too, called
by the name of the file.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pluggy
from attrs import frozen

from prefloop import components, hooks
from prefloop.errors import UserError, did_you_mean
from prefloop.plugin_file import read_plugin_file

BUNDLED = "prefloop"
COMMAND = "command"
"""The kind of a provider that is no component."""
DEFAULTS: Mapping[str, str] = {
    "algorithm": "online_dpo",
    "sampler": "policy",
    "loss": "sigmoid",
    "display": "progress",
    "report": "report",
    "comparison": "runs compare",
    "converter": "config convert",
}
"""The components that are used where none is named: the only ones that core knows by name.

``display`` is the observer that shows a run on the terminal, ``report`` the one that writes its report,
``comparison`` the command that compares the runs of a queue, and ``converter`` the one that makes the
configurations of other tools into prefloop's.
"""


@frozen
class Kind:
    """A kind of component: its name, its plural, the hook that offers it, and its types.

    `protocol` says what it must have, `base` what it may have besides; an algorithm has nothing besides.
    """

    name: str
    plural: str
    hook: str
    protocol: Any
    base: Any


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("sampler", "samplers", "prefloop_samplers", components.Sampler, components.BaseSampler),
        Kind("judge", "judges", "prefloop_judges", components.Judge, components.BaseJudge),
        Kind("loss", "losses", "prefloop_losses", components.Loss, components.BaseLoss),
        Kind("bonus", "bonuses", "prefloop_bonuses", components.Bonus, components.BaseBonus),
        Kind("algorithm", "algorithms", "prefloop_algorithms", components.Algorithm, components.Algorithm),
        Kind("observer", "observers", "prefloop_observers", components.Observer, components.Observer),
    )
}


@frozen
class Origin:
    """Where a component class comes from."""

    name: str
    """``distribution:name``; ``module:Class`` where no plugin offers it."""
    version: str = ""
    """That of the distribution; empty where no plugin offers it."""

    @property
    def short(self) -> str:
        """The name without what comes before the colon."""
        return self.name.rpartition(":")[2]


@frozen
class Provider:
    """One component or command on offer: its kind, its name, who offers it, and where to find it."""

    kind: str
    name: str
    distribution: str
    version: str
    target: type | str
    help: str = ""
    """Of a command, its line in ``prefloop --help``."""

    @property
    def qualified(self) -> str:
        return f"{self.distribution}:{self.name}"

    @property
    def origin(self) -> Origin:
        return Origin(self.qualified, self.version)

    def load(self) -> type:
        """The component class. Raises `UserError` where it cannot be imported."""
        found = self.load_object()
        if not isinstance(found, type):
            raise UserError(f"{self.kind} '{self.qualified}': '{self.target}' is not a class")
        return found

    def load_object(self) -> Any:
        """Whatever the target names. Raises `UserError` where it cannot be imported."""
        if isinstance(self.target, type):
            return self.target
        try:
            module, _, attribute = self.target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self.kind} '{self.qualified}' cannot be loaded from '{self.target}': {_first_line(error)}"
            ) from error


@frozen
class Broken:
    """A plugin that was set aside, and why."""

    distribution: str
    version: str
    error: str


class Registry:
    """What is installed and not disabled: components in `providers`, and `commands`.

    `disable` names distributions to leave out, besides those in ``PREFLOOP_DISABLE``. Raises
    `UserError` for a broken plugin where ``PREFLOOP_STRICT_PLUGINS=1``.
    """

    def __init__(self, disable: Iterable[str] = ()) -> None:
        listed = os.environ.get("PREFLOOP_DISABLE", "").split(",")
        self.disabled = frozenset(canonical(n) for n in [*disable, *listed] if n.strip())
        self.providers: list[Provider] = []
        self.commands: list[Provider] = []
        self.broken: list[Broken] = []
        self.files: set[str] = set()
        entry_points = importlib.metadata.entry_points(group=hooks.PROJECT)
        self.installed = frozenset(_distribution(entry_point) for entry_point in entry_points)
        for entry_point in entry_points:
            self._add(entry_point)
        self._sort()

    def add_file(self, given: str) -> str:
        """Take the components in a Python file in; the name that stands before theirs.

        Raises `UserError`, with the line in the file, for whatever is wrong with it.
        """
        file = read_plugin_file(given)
        name = canonical(file.distribution)
        if name in self.installed or any(p.distribution == name for p in self.providers):
            raise UserError(f"'{given}' goes by the name '{name}', as another plugin does: rename the file.")
        try:
            offered = list(_offered(file.load(), name, file.version))
        except (Exception, SystemExit) as error:
            raise UserError(file.told(error)) from error
        if any(p.kind == COMMAND for p in offered):
            raise UserError(f"'{given}' offers a command, which only a plugin that is installed can.")
        if not offered:
            hooks_of_kinds = ", ".join(kind.hook for kind in KINDS.values())
            raise UserError(
                f"'{given}' offers no component: mark a function of it with prefloop.hookimpl that has "
                f"one of the names {hooks_of_kinds}."
            )
        self.files.add(given)
        self.providers += offered
        self._sort()
        return name

    def _sort(self) -> None:
        for offered in (self.providers, self.commands):
            offered.sort(key=lambda p: (p.kind, p.distribution != BUNDLED, p.distribution, p.name))

    def component(self, kind: str, name: str) -> type:
        """The class registered as `name`. Raises `UserError` where none or several are."""
        return self.find(kind, name).load()

    def find(self, kind: str, name: str) -> Provider:
        """Who offers `name`. Raises `UserError` where nobody does, or two third parties do."""
        offered = self.of_kind(kind)
        if ":" in name:
            distribution, _, short = name.partition(":")
            matches = [p for p in offered if (p.distribution, p.name) == (canonical(distribution), short)]
        else:
            matches = [p for p in offered if p.name == name]
            matches = [p for p in matches if p.distribution == BUNDLED] or matches
        if not matches:
            names = {p.name for p in offered} | {p.qualified for p in offered if ":" in name}
            raise UserError(f"there is no {kind} '{name}'.{did_you_mean(name, names)}{self.set_aside()}")
        if len(matches) > 1:
            choices = " or ".join(f"'{p.qualified}'" for p in matches)
            raise UserError(f"{kind} '{name}' is offered by several plugins: write {choices}.")
        return matches[0]

    def of_kind(self, kind: str) -> list[Provider]:
        """What is offered of a kind: the bundled ones first, then by distribution and name."""
        return [p for p in self.providers if p.kind == kind]

    def origin_of(self, component: object, kind: str) -> Origin:
        """Who offers the class of a component; the class itself where nobody does."""
        cls = type(component)
        for provider in self.of_kind(kind):
            if provider.target is cls or str(provider.target).endswith(f":{cls.__qualname__}"):
                with suppress(UserError):
                    if provider.load() is cls:
                        return provider.origin
        return Origin(f"{cls.__module__}:{cls.__qualname__}")

    def set_aside(self) -> str:
        """A sentence about broken and disabled plugins, to end a message with; empty where there are none."""
        broken = "; ".join(f"{b.distribution} ({b.error})" for b in self.broken)
        disabled = ", ".join(sorted(self.disabled))
        message = f" Set aside as broken: {broken}." if broken else ""
        return message + (f" Disabled: {disabled}." if disabled else "")

    def _add(self, entry_point: importlib.metadata.EntryPoint) -> None:
        distribution = _distribution(entry_point)
        version = entry_point.dist.version if entry_point.dist else "?"
        if distribution in self.disabled:
            return
        try:
            offered = list(_offered(entry_point.load(), distribution, version))
        except (Exception, SystemExit) as error:
            reason = _first_line(error)
            if os.environ.get("PREFLOOP_STRICT_PLUGINS") == "1":
                raise UserError(f"plugin '{distribution}' {version} is broken: {reason}") from error
            self.broken.append(Broken(distribution, version, reason))
        else:
            self.providers += [p for p in offered if p.kind != COMMAND]
            self.commands += [p for p in offered if p.kind == COMMAND]


def _offered(plugin: object, distribution: str, version: str) -> Iterator[Provider]:
    """What one plugin offers. Raises whatever is wrong with it."""
    manager = pluggy.PluginManager(hooks.PROJECT)  # one of its own, which makes its faults its own as well
    manager.add_hookspecs(hooks)
    manager.register(plugin)
    manager.check_pending()
    for kind in KINDS.values():
        for name, target in _named(manager, kind.hook, "classes or texts 'package.module:Class'"):
            if not re.fullmatch(r"[^\s:]+", name):
                raise ValueError(f"{kind.hook}: {name!r} is no name: it must have no space and no colon")
            if not isinstance(target, type) and not hooks.TARGET.fullmatch(str(target)):
                raise TypeError(f"{kind.hook}: '{name}' is neither a class nor 'package.module:Class'")
            yield Provider(kind.name, name, distribution, version, target)
    for name, command in _named(manager, "prefloop_commands", "prefloop.Command(target, help)"):
        *group, last = name.split(" ")
        if not re.fullmatch(r"[^\W_][\w-]*", last) or len(group) > 1 or not {*hooks.GROUPS}.issuperset(group):
            raise ValueError(
                f"prefloop_commands: {name!r} is no name: it must be one word that begins with a letter or "
                f"digit, or such a word after a group ({', '.join(hooks.GROUPS)})"
            )
        if not isinstance(command, hooks.Command):
            raise TypeError(f"prefloop_commands: '{name}' is no prefloop.Command(target, help)")
        yield Provider(COMMAND, name, distribution, version, command.target, command.help)


def _named(manager: pluggy.PluginManager, hook: str, offers: str) -> Iterator[tuple[str, Any]]:
    caller = getattr(manager.hook, hook)
    for answer in caller() or [None] * len(caller.get_hookimpls()):  # pluggy leaves None out
        if not isinstance(answer, Mapping):
            returned = "None" if answer is None else f"a value of type '{type(answer).__name__}'"
            raise TypeError(f"{hook} returned {returned}: it must return a mapping from names to {offers}")
        for name, target in answer.items():
            if not isinstance(name, str):
                raise TypeError(f"{hook}: {name!r} is no name: it must be text")
            yield name, target


def _distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    return canonical(entry_point.dist.name) if entry_point.dist else entry_point.name


def canonical(distribution: str) -> str:
    """The name of a distribution in the one spelling that is compared."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _first_line(error: BaseException) -> str:
    first, *more = f"{type(error).__name__}: {error}".splitlines()
    if more and isinstance(error, pluggy.PluginValidationError):
        return f"{first}: {more[-1]}"  # its last line says which argument of the hook is wrong
    return first


def origin_of(component: object, kind: str, known: Mapping[type, Origin]) -> Origin:
    """Where a component comes from: as `known`, which a configuration has, says; else as it is installed."""
    return known.get(type(component)) or Registry().origin_of(component, kind)


def component(kind: str, name: str) -> type:
    """The component class that is installed as `name`, such as ``component("loss", "ipo")``.

    Raises `UserError` where there is none.
    """
    return Registry().component(kind, name)
