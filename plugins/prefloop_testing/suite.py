"""What holds for every component (options, help, entry point) and for every plugin (it imports, and fast)."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import re
import subprocess
import sys
import unittest
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import click
import yaml

from prefloop import hooks
from prefloop.components import Stateful, adapt, required_and_abilities
from prefloop.config import yaml_nodes
from prefloop.config.components import ComponentLookup
from prefloop.config.dump import options_to_plain
from prefloop.config.options import options_of
from prefloop.config.structure import Structurer
from prefloop.config.yaml_nodes import InvalidError, Place, from_plain
from prefloop.errors import UserError
from prefloop.registry import BUNDLED, KINDS, Provider, Registry, canonical

if TYPE_CHECKING:
    import mlx.core as mx

HEAVY = ("datasets", "mlx", "mlx_lm", "torch", "transformers")
"""Libraries that take long to import. Listing plugins must not import them."""
UNDER_TEST = "conformance:under-test"
"""The qualified name of the component under test in the registries that the kit makes."""

HOOKS = (*(kind.hook for kind in KINDS.values()), "prefloop_commands")

_LIST_PLUGIN = f"""
import sys
from importlib.metadata import EntryPoint
try:
    plugin = EntryPoint("plugin", sys.argv[1], "prefloop").load()
    for hook in {HOOKS!r}:
        getattr(plugin, hook, dict)()
except SystemExit as error:
    sys.exit(f"it ends the process with {{error.code or 0!r}}")
except Exception as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}".splitlines()[0])
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


class Note(UserWarning):
    """Something that is no fault but that a user may want to know, such as position bias of a judge."""


def note(text: str) -> None:
    """Report `text` beside the result of a test: pytest lists it among its warnings."""
    warnings.warn(text, Note, stacklevel=3)


def skip(reason: str) -> NoReturn:
    """End a test that does not apply. pytest and unittest both know this exception."""
    raise unittest.SkipTest(reason)


def listed(names: Iterable[str]) -> str:
    """Names in quotes, for a message; empty where there are none."""
    return ", ".join(f"'{name}'" for name in sorted(names))


class ComponentSuite:
    """Tests of one component. A subclass sets `component`; `registered` is False if no plugin offers it."""

    kind: ClassVar[str]
    component: Any
    registered: bool = True

    @property
    def component_class(self) -> type:
        return type(self.component)

    def claims(self, ability: str) -> Any:
        """What the component has of an ability, such as ``symmetric``, or its default."""
        return getattr(adapt(self.component, KINDS[self.kind].base), ability)

    def under_test(self) -> tuple[Registry, dict[str, Any]]:
        """A registry that also offers the component, and the settings that a run would save for it."""
        registry, (distribution, _, name) = Registry(), UNDER_TEST.partition(":")
        registry.providers.append(Provider(self.kind, name, distribution, "0", self.component_class))
        try:
            options = yaml.safe_load(yaml_nodes.dump(options_to_plain(self.component, {})))
        except (yaml.YAMLError, UserError) as error:
            raise AssertionError(
                f"its options cannot be written as YAML ({error}): a run that uses it could not be saved."
            ) from error
        return registry, {"use": UNDER_TEST, **(options or {})}

    def test_every_option_has_help(self) -> None:
        options = options_of(self.component_class)
        silent = listed(name for name, option in options.items() if not option.help)
        assert not silent, (
            f"{silent} has no help: `prefloop plugins show` cannot tell a user what it does. "
            'Give the field metadata={"help": "..."}.'
        )

    def test_no_ability_is_misspelt(self) -> None:
        abilities = required_and_abilities(KINDS[self.kind].base)
        own = {name for name in dir(self.component_class) if not name.startswith("_")}
        for name in sorted(own.difference(abilities, options_of(self.component_class))):
            near = difflib.get_close_matches(name, abilities, n=1, cutoff=0.85)
            assert not near, f"it has '{name}', which nothing reads: did you mean '{near[0]}'?"

    def test_options_survive_yaml(self) -> None:
        registry, settings = self.under_test()
        structurer = Structurer(ComponentLookup(registry))
        try:
            again = structurer.structure(from_plain(settings, Place(self.kind)), KINDS[self.kind].protocol)
        except InvalidError as error:
            raise AssertionError(
                f"its options do not load from the YAML that a run saves ({error.problems[0]}): "
                "the run could not be resumed."
            ) from error
        for option in options_of(self.component_class):
            before, after = getattr(self.component, option), getattr(again, option)
            assert before == after, (
                f"option '{option}' is {before!r} before and {after!r} after it went through YAML: "
                "a resumed run would go on with other options than it began with."
            )

    def test_is_found_through_its_entry_point(self) -> None:
        providers, name = self._providers(), self.component_class.__name__
        broken = "; ".join(f"{b.distribution} ({b.error})" for b in Registry().broken)
        assert providers, (
            f"no entry point offers {name} as a {self.kind}: a user who installs the package cannot name it "
            "in a configuration. Is it installed (`pip install -e .`), does its pyproject.toml have "
            "[project.entry-points.prefloop], and does the hook return this class?"
            + (f" Set aside as broken: {broken}." if broken else "")
        )

    def test_listing_it_imports_nothing_heavy(self) -> None:
        for provider in self._providers():
            check_import_is_light(provider.distribution)

    def _providers(self) -> list[Provider]:
        """The entries of the class in the registry."""
        if not self.registered:
            skip("the component belongs to no plugin (registered = False)")
        cls = self.component_class
        package = cls.__module__.partition(".")[0]
        offered = [p for p in Registry().providers if p.kind == self.kind]
        near = [p for p in offered if p.target is cls or re.split("[.:]", str(p.target))[0] == package]
        return [p for p in near if _is(p, cls)]


class PluginSuite:
    """Tests of an installed distribution. A subclass sets `distribution`, its name for pip."""

    distribution: str

    def test_it_is_installed_and_imports(self) -> None:
        name = self.distribution
        assert _entry_points(name), (
            f"'{name}' offers nothing to prefloop. Is it installed, and does its pyproject.toml have "
            "[project.entry-points.prefloop]?"
        )
        broken = "; ".join(b.error for b in Registry().broken if b.distribution == canonical(name))
        assert not broken, f"'{name}' is set aside as broken ({broken}): no component of it can be used."

    def test_listing_it_imports_nothing_heavy(self) -> None:
        check_import_is_light(self.distribution)

    def test_every_component_can_be_loaded(self) -> None:
        for provider in Registry().providers:
            if provider.distribution == canonical(self.distribution):
                try:
                    provider.load()
                except UserError as error:
                    raise AssertionError(f"{error}: it is listed, but cannot be used.") from error

    def test_every_command_can_be_loaded(self) -> None:
        for provider in Registry().commands:
            if provider.distribution == canonical(self.distribution):
                try:
                    found = provider.load_object()
                except UserError as error:
                    raise AssertionError(f"{error}: it is listed, but cannot be run.") from error
                assert isinstance(found, click.Command), (
                    f"command '{provider.name}': '{provider.target}' is a {type(found).__name__}, not a "
                    "click command: it is listed, but cannot be run."
                )

    def test_no_name_is_hidden(self) -> None:
        """Reported, not asserted: the qualified name always works."""
        providers, own = Registry().providers, canonical(self.distribution)
        bundled = {(p.kind, p.name) for p in providers if p.distribution == BUNDLED}
        for provider in providers:
            if provider.distribution == own != BUNDLED and (provider.kind, provider.name) in bundled:
                note(
                    f"{provider.kind} '{provider.name}' is also the name of a bundled one, which wins: "
                    f"users have to write '{provider.qualified}'."
                )


def check_restoring(component: Stateful, state: Mapping[str, mx.array]) -> None:
    """Put a component where `state`, its own, says that it was: it has that state again."""
    if state:
        component.restore(state)
    kept = {name: value.tolist() for name, value in component.state().items()}
    assert kept == {name: value.tolist() for name, value in state.items()}, (
        "restore(state()) changes the state: a resumed run would go on from another one."
    )


def check_import_is_light(distribution: str) -> None:
    """Raises `AssertionError` where importing the plugin and calling its hooks imports a heavy library."""
    for entry_point in _entry_points(distribution):
        heavy = _heavy_imports(entry_point.value)
        assert not heavy, (
            f"importing '{entry_point.value}' imports {' and '.join(heavy)}: every `prefloop --help` and "
            "`prefloop plugins list` would take seconds once it is installed. Let the hook return "
            "the text 'package.module:Class', and keep heavy imports in that module."
        )


@cache
def _heavy_imports(entry_point: str) -> tuple[str, ...]:
    """The heavy libraries that a fresh interpreter has imported after it has listed the plugin."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST_PLUGIN, entry_point],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    reason = done.stderr.strip() or f"it ends the process with {done.returncode}"
    assert done.returncode == 0 and done.stdout, (
        f"'{entry_point}' cannot be imported ({reason.splitlines()[-1]}): "
        "prefloop sets the plugin aside, and no component of it can be used."
    )
    return tuple(done.stdout.splitlines()[-1].split())  # the plugin may have printed before


def _entry_points(distribution: str) -> list[importlib.metadata.EntryPoint]:
    """The entry points for prefloop of an installed distribution."""
    own = canonical(distribution)
    found = importlib.metadata.entry_points(group=hooks.PROJECT)
    return [e for e in found if e.dist and canonical(e.dist.name) == own]


def _is(provider: Provider, cls: type) -> bool:
    try:
        return provider.load() is cls
    except UserError:
        return False
