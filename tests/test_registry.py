"""Names, clashes, broken and disabled plugins, with entry points made up here."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from prefloop.cli.plugged import PluggedGroup
from prefloop.errors import UserError
from prefloop.hooks import Command, hookimpl
from prefloop.registry import KINDS, Broken, Origin, Registry, component

Install = Callable[..., None]


class Short:
    """Stands for a component class."""


class Long:
    """Another one."""


def offering(kind: str, **components: type | str) -> ModuleType:
    """A plugin module with one hook. Underscores in names stand for hyphens."""
    plugin = ModuleType(f"plugin_of_a_{kind}")
    offered = {name.replace("_", "-"): target for name, target in components.items()}

    def hook() -> dict[str, type | str]:
        return offered

    setattr(plugin, KINDS[kind].hook, hookimpl(hook))
    return plugin


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install(("dist-name", plugin), ...)``: these entry points instead of the installed ones.

    An exception in the place of a plugin is raised when it is loaded.
    """
    monkeypatch.delenv("PREFLOOP_DISABLE", raising=False)
    monkeypatch.delenv("PREFLOOP_STRICT_PLUGINS", raising=False)

    def entry_point(distribution: str, plugin: object) -> Any:
        def load() -> object:
            if isinstance(plugin, BaseException):
                raise plugin
            return plugin

        dist = SimpleNamespace(name=distribution, version="1.2")
        return SimpleNamespace(name="entry", dist=dist, load=load)

    def install(*plugins: tuple[str, object]) -> None:
        points = [entry_point(*plugin) for plugin in plugins]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: points)

    return install


def complaint(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_hook(install: Install, kind: str) -> None:
    install(("acme", offering(kind, short=Short)))
    assert component(kind, "short") is Short


def test_listing_imports_no_target(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(("acme", offering("judge", lazy="xml.dom.pulldom:PullDOM")))
    monkeypatch.delitem(sys.modules, "xml.dom.pulldom", raising=False)
    registry = Registry()
    assert [(p.name, p.distribution, p.version) for p in registry.providers] == [("lazy", "acme", "1.2")]
    assert "xml.dom.pulldom" not in sys.modules
    assert registry.component("judge", "lazy").__name__ == "PullDOM"
    assert "xml.dom.pulldom" in sys.modules


def test_bundled_components_are_listed_first(install: Install) -> None:
    install(("acme", offering("loss", a=Short)), ("prefloop", offering("loss", z=Short, b=Long)))
    assert [p.qualified for p in Registry().providers] == ["prefloop:b", "prefloop:z", "acme:a"]


def test_a_bundled_short_name_wins(install: Install) -> None:
    install(("acme", offering("loss", ipo=Short)), ("prefloop", offering("loss", ipo=Long)))
    registry = Registry()
    assert registry.component("loss", "ipo") is Long
    assert registry.component("loss", "acme:ipo") is Short
    assert registry.component("loss", "prefloop:ipo") is Long


def test_two_third_parties_clash_by_short_name_only(install: Install) -> None:
    install(("acme", offering("judge", near=Short)), ("rival", offering("judge", near=Long)))
    registry = Registry()
    expected = "judge 'near' is offered by several plugins: write 'acme:near' or 'rival:near'."
    assert complaint(lambda: registry.component("judge", "near")) == expected
    assert registry.component("judge", "acme:near") is Short
    assert registry.component("judge", "rival:near") is Long


def test_equal_names_of_different_kinds_do_not_clash(install: Install) -> None:
    install(("acme", offering("judge", near=Short)), ("rival", offering("loss", near=Long)))
    assert Registry().component("judge", "near") is Short
    assert Registry().component("loss", "near") is Long


def test_distributions_are_known_by_their_canonical_name(install: Install) -> None:
    install(("My_Judge.Kit", offering("judge", near=Short)))
    registry = Registry()
    assert registry.providers[0].qualified == "my-judge-kit:near"
    assert registry.component("judge", "my_judge.kit:near") is Short


def test_where_a_component_comes_from(install: Install) -> None:
    install(("acme", offering("judge", near=Short)), ("rival", offering("judge", far=f"{__name__}:Long")))
    registry = Registry()
    assert registry.origin_of(Short(), "judge") == Origin("acme:near", "1.2")
    assert registry.origin_of(Long(), "judge") == Origin("rival:far", "1.2")
    assert registry.origin_of(Long(), "loss") == Origin(f"{__name__}:Long")


def test_an_unknown_name_gets_a_suggestion(install: Install) -> None:
    install(("acme", offering("judge", near_length=Short)))
    registry = Registry()
    expected = "there is no judge 'near-lenght'. Did you mean 'near-length'?"
    assert complaint(lambda: registry.component("judge", "near-lenght")) == expected
    expected = "there is no judge 'amce:near-length'. Did you mean 'acme:near-length'?"
    assert complaint(lambda: registry.component("judge", "amce:near-length")) == expected


def test_an_unknown_name_far_from_all_gets_no_suggestion(install: Install) -> None:
    install(("acme", offering("judge", near=Short, far=Long)))
    assert complaint(lambda: component("judge", "xyz")) == "there is no judge 'xyz'. Known: far, near."
    assert complaint(lambda: component("loss", "xyz")) == "there is no loss 'xyz'."


class Misspelt:
    @hookimpl
    def prefloop_jugdes(self) -> dict[str, type]:
        return {"near": Short}


class Failing:
    @hookimpl
    def prefloop_judges(self) -> dict[str, type]:
        raise RuntimeError("no licence\nfound on this machine")


class Asking:
    @hookimpl
    def prefloop_judges(self, config: object) -> dict[str, type]:
        return {"near": Short}


BROKEN = {
    "import": (ImportError("No module named 'torch'"), "ImportError: No module named 'torch'"),
    "exit": (SystemExit("wants Windows"), "SystemExit: wants Windows"),
    "hook call": (Failing(), "RuntimeError: no licence"),
    "hook name": (Misspelt(), "PluginValidationError: unknown hook 'prefloop_jugdes' in plugin"),
    "target": (
        offering("judge", near="somewhere"),
        "TypeError: prefloop_judges: 'near' is neither a class nor 'package.module:Class'",
    ),
    "component name": (
        offering("judge", **{"a:b": Short}),
        "ValueError: prefloop_judges: 'a:b' is no name: it must have no space and no colon",
    ),
}


@pytest.mark.parametrize(
    ("answer", "returned"),
    [(["near"], "a value of type 'list'"), (3, "a value of type 'int'"), (None, "None")],
)
@pytest.mark.parametrize(
    ("hook", "offers"),
    [
        ("prefloop_judges", "classes or texts 'package.module:Class'"),
        ("prefloop_commands", "prefloop.Command(target, help)"),
    ],
)
def test_a_hook_that_returns_no_mapping_is_named(
    install: Install, hook: str, offers: str, answer: object, returned: str
) -> None:
    plugin = ModuleType("plugin_of_no_mapping")
    setattr(plugin, hook, hookimpl(lambda: answer))
    install(("shaky", plugin))
    (broken,) = Registry().broken
    expected = f"TypeError: {hook} returned {returned}: it must return a mapping from names to {offers}"
    assert broken.error == expected


def test_an_argument_that_a_hook_does_not_have_is_named(install: Install) -> None:
    install(("shaky", Asking()))
    (broken,) = Registry().broken
    assert "for hook 'prefloop_judges': Argument(s) {'config'} are declared in the hookimpl" in broken.error


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_set_aside(install: Install, fault: str) -> None:
    plugin, error = BROKEN[fault]
    install(("shaky", plugin), ("acme", offering("judge", near=Short)))
    registry = Registry()
    assert registry.component("judge", "near") is Short
    assert [(b.distribution, b.version) for b in registry.broken] == [("shaky", "1.2")]
    assert registry.broken[0].error.startswith(error)
    assert "\n" not in registry.broken[0].error


def test_a_plugin_that_breaks_half_way_offers_nothing(install: Install) -> None:
    half = offering("judge", near=Short)
    half.prefloop_observers = hookimpl(lambda: {"log": 3})  # type: ignore[attr-defined]
    install(("shaky", half))
    assert Registry().providers == []


def test_broken_plugins_are_mentioned_where_a_name_is_missing(install: Install) -> None:
    install(("shaky", ImportError("No module named 'torch'")), ("acme", offering("judge", near=Short)))
    assert complaint(lambda: component("judge", "xyz")) == (
        "there is no judge 'xyz'. Known: near. "
        "Set aside as broken: shaky (ImportError: No module named 'torch')."
    )


def test_strict_plugins_make_a_broken_one_fatal(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(("shaky", ImportError("No module named 'torch'")))
    assert Registry().broken == [Broken("shaky", "1.2", "ImportError: No module named 'torch'")]
    monkeypatch.setenv("PREFLOOP_STRICT_PLUGINS", "1")
    expected = "plugin 'shaky' 1.2 is broken: ImportError: No module named 'torch'"
    assert complaint(Registry) == expected


def test_disabled_plugins_are_not_even_loaded(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        ("acme", AssertionError("loaded")),
        ("Rival_Judges", AssertionError("loaded")),
        ("third", offering("judge", near=Short)),
    )
    monkeypatch.setenv("PREFLOOP_DISABLE", "acme, ")
    monkeypatch.setenv("PREFLOOP_STRICT_PLUGINS", "1")
    registry = Registry(disable=["rival-judges"])
    assert registry.disabled == {"acme", "rival-judges"}
    assert [p.qualified for p in registry.providers] == ["third:near"]
    assert complaint(lambda: registry.component("judge", "far")) == (
        "there is no judge 'far'. Known: near. Disabled: acme, rival-judges."
    )


def test_disabling_one_side_settles_a_clash(install: Install) -> None:
    install(("acme", offering("judge", near=Short)), ("rival", offering("judge", near=Long)))
    assert Registry(disable=["rival"]).component("judge", "near") is Short


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("no_such_module:Near", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:Near", "AttributeError: module 'json' has no attribute 'Near'"),
    ],
)
def test_a_component_that_cannot_be_loaded_is_named(install: Install, target: str, problem: str) -> None:
    install(("acme", offering("judge", near=target)))
    expected = f"judge 'acme:near' cannot be loaded from '{target}': {problem}"
    assert complaint(lambda: component("judge", "near")) == expected


def test_a_target_that_is_no_class_is_refused(install: Install) -> None:
    install(("acme", offering("judge", near="json:dumps")))
    assert complaint(lambda: component("judge", "near")) == "judge 'acme:near': 'json:dumps' is not a class"


def test_the_bundled_components_can_all_be_loaded() -> None:
    for provider in Registry().providers:
        module, _, name = str(provider.target).partition(":")
        assert provider.load() is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    "name", ["a b c", "runs  x", "nogroup x", "a:b", "", "two\nlines", "--flag", "-f", "_x", "runs --x"]
)
def test_a_command_with_a_wrong_name_breaks_its_plugin(name: str, install: Install) -> None:
    install(("acme", plugin_with_commands({name: Command("acme.commands:go", "Go.")})))
    (broken,) = Registry().broken
    assert broken.error == (
        f"ValueError: prefloop_commands: {name!r} is no name: it must be one word that begins with a letter "
        "or digit, or such a word after a group (config, plugins, runs)"
    )


@pytest.mark.parametrize(
    ("target", "help", "message"),
    [
        (
            "acme.commands",
            "Go.",
            "Command(target='acme.commands', help='Go.'): a command's target is a text 'package.module:name'",
        ),
        (
            "acme.commands:go",
            "Go.\nStop.",
            "Command(target='acme.commands:go', help='Go.\\nStop.'): a command's help is one line of text",
        ),
        (
            "acme.commands:go",
            "",
            "Command(target='acme.commands:go', help=''): a command's help is one line of text",
        ),
    ],
)
def test_a_command_is_checked_where_it_is_made(target: str, help: str, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        Command(target, help)


def test_a_bundled_command_keeps_its_name_and_another_goes_by_its_qualified_one(install: Install) -> None:
    install(
        ("prefloop", plugin_with_commands({"judge": Command("prefloop.cli:main", "Ours.")})),
        ("acme", plugin_with_commands({"judge": Command("acme.commands:judge", "Theirs.")})),
    )
    assert sorted(PluggedGroup("main").offered) == ["acme:judge", "judge"]


def plugin_with_commands(commands: dict[str, Command]) -> ModuleType:
    plugin = ModuleType("plugin_with_commands")

    def hook() -> dict[str, Command]:
        return commands

    plugin.prefloop_commands = hookimpl(hook)  # type: ignore[attr-defined]
    return plugin
