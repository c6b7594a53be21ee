"""Finds plugins through entry points, and components by name.

A plugin is known by the name of its distribution. A component is named ``name`` or, where two plugins
offer that name, ``distribution:name``. The bundled short names always win, so installing a package
never changes what an existing configuration means. A plugin that fails to import is set aside and
listed as broken; it hurts nobody else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from typing import TYPE_CHECKING

import pluggy
from attrs import frozen

from prefloop import hooks
from prefloop.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BUNDLED = "prefloop"
KINDS: Mapping[str, str] = {
    "sampler": "prefloop_samplers",
    "judge": "prefloop_judges",
    "loss": "prefloop_losses",
    "bonus": "prefloop_bonuses",
    "algorithm": "prefloop_algorithms",
    "observer": "prefloop_observers",
}


@frozen
class Provider:
    """One component on offer: its kind, its name, who offers it, and the class or where to find it."""

    kind: str
    name: str
    distribution: str
    version: str
    target: type | str

    @property
    def qualified(self) -> str:
        return f"{self.distribution}:{self.name}"

    def load(self) -> type:
        """The component class. Raises `UserError` where it cannot be imported."""
        if isinstance(self.target, type):
            return self.target
        try:
            module, _, attribute = self.target.partition(":")
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise UserError(
                f"{self.kind} '{self.qualified}' cannot be loaded from '{self.target}': {_say(error)}"
            ) from error
        if not isinstance(found, type):
            raise UserError(f"{self.kind} '{self.qualified}': '{self.target}' is not a class")
        return found


@frozen
class Broken:
    """A plugin that was set aside, and why."""

    distribution: str
    version: str
    error: str


class Registry:
    """The components that are installed and not disabled.

    `disable` names distributions to leave out, besides those in ``PREFLOOP_DISABLE``. Raises
    `UserError` for a broken plugin where ``PREFLOOP_STRICT_PLUGINS=1``.
    """

    def __init__(self, disable: Iterable[str] = ()) -> None:
        listed = os.environ.get("PREFLOOP_DISABLE", "").split(",")
        self.disabled = frozenset(canonical(n) for n in [*disable, *listed] if n.strip())
        self.providers: list[Provider] = []
        self.broken: list[Broken] = []
        self._names: dict[type, str] = {}
        entry_points = importlib.metadata.entry_points(group=hooks.PROJECT)
        self.installed = frozenset(_distribution(entry_point) for entry_point in entry_points)
        for entry_point in entry_points:
            self._add(entry_point)
        self.providers.sort(key=lambda p: (p.kind, p.distribution != BUNDLED, p.distribution, p.name))

    def component(self, kind: str, name: str) -> type:
        """The class registered as `name`. Raises `UserError` where none or several are."""
        provider = self.find(kind, name)
        cls = provider.load()
        self._names[cls] = provider.qualified
        return cls

    def find(self, kind: str, name: str) -> Provider:
        """Who offers `name`. Raises `UserError` where nobody does, or two third parties do."""
        offered = [p for p in self.providers if p.kind == kind]
        if ":" in name:
            distribution, _, short = name.partition(":")
            matches = [p for p in offered if (p.distribution, p.name) == (canonical(distribution), short)]
        else:
            matches = [p for p in offered if p.name == name]
            matches = [p for p in matches if p.distribution == BUNDLED] or matches
        if not matches:
            raise UserError(self._not_found(kind, name, offered))
        if len(matches) > 1:
            choices = " or ".join(f"'{p.qualified}'" for p in matches)
            raise UserError(f"{kind} '{name}' is offered by several plugins: write {choices}.")
        return matches[0]

    def name_of(self, component: object) -> str | None:
        """The qualified name of a component (or its class) that came from this registry."""
        cls = component if isinstance(component, type) else type(component)
        return self._names.get(cls)

    def version_of(self, qualified: str) -> str:
        """The version of the distribution that offers ``distribution:name``; empty where none does."""
        return next((p.version for p in self.providers if p.qualified == qualified), "")

    def _add(self, entry_point: importlib.metadata.EntryPoint) -> None:
        distribution = _distribution(entry_point)
        version = entry_point.dist.version if entry_point.dist else "?"
        if distribution in self.disabled:
            return
        try:
            offered = list(_offered(entry_point.load(), distribution, version))
        except (Exception, SystemExit) as error:
            if os.environ.get("PREFLOOP_STRICT_PLUGINS") == "1":
                raise UserError(f"plugin '{distribution}' {version} is broken: {_say(error)}") from error
            self.broken.append(Broken(distribution, version, _say(error)))
        else:
            self.providers += offered

    def _not_found(self, kind: str, name: str, offered: list[Provider]) -> str:
        names = {p.name for p in offered} | {p.qualified for p in offered if ":" in name}
        message = f"there is no {kind} '{name}'.{did_you_mean(name, names)}"
        if self.broken:
            broken = "; ".join(f"{b.distribution} ({b.error})" for b in self.broken)
            message += f" Set aside as broken: {broken}."
        if self.disabled:
            message += f" Disabled: {', '.join(sorted(self.disabled))}."
        return message


def _offered(plugin: object, distribution: str, version: str) -> Iterator[Provider]:
    """What one plugin registers. A manager of its own makes its faults its own as well."""
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    manager.register(plugin)
    manager.check_pending()
    for kind, hook in KINDS.items():
        for components in getattr(manager.hook, hook)():
            for name, target in dict(components).items():
                if not re.fullmatch(r"[^\s:]+", name):
                    raise ValueError(f"{hook}: {name!r} is no name: it must have no space and no colon")
                if not isinstance(target, type) and not re.fullmatch(r"[\w.]+:\w+", str(target)):
                    raise TypeError(f"{hook}: '{name}' is neither a class nor 'package.module:Class'")
                yield Provider(kind, name, distribution, version, target)


def _distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    return canonical(entry_point.dist.name) if entry_point.dist else entry_point.name


def canonical(distribution: str) -> str:
    """The name of a distribution in the one spelling that is compared."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def component(kind: str, name: str) -> type:
    """The component class that is installed as `name`, such as ``component("loss", "ipo")``.

    Raises `UserError` where there is none.
    """
    return Registry().component(kind, name)
