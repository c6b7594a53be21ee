"""What holds for components of every kind: options, help, and how they are found."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from prefloop.config import yaml_nodes
from prefloop.config.components import Components
from prefloop.config.dump import options_to_plain
from prefloop.config.options import KIND_OF, options_of
from prefloop.config.structure import Structurer
from prefloop.config.yaml_nodes import InvalidError, Place, from_plain
from prefloop.errors import UserError
from prefloop.registry import Provider, Registry
from prefloop.testing import plugin
from prefloop.testing.running import skip

PROTOCOL_OF = {kind: protocol for protocol, kind in KIND_OF.items()}


class ComponentSuite:
    """Tests of one component. A subclass sets `component`; `registered` is False for one of no plugin."""

    kind: ClassVar[str]
    component: Any
    registered: bool = True

    @property
    def component_class(self) -> type:
        return type(self.component)

    def claims(self, fact: str) -> Any:
        """A class fact of the component, such as ``symmetric``; None where it does not say."""
        return getattr(self.component, fact, None)

    def test_every_option_has_help(self) -> None:
        options = options_of(self.component_class)
        silent = ", ".join(f"'{name}'" for name, option in options.items() if not option.help)
        assert not silent, (
            f"{silent} has no help: `prefloop plugins show` would leave its user to guess what it does; "
            'give the field metadata={"help": "..."}.'
        )

    def test_options_survive_yaml(self) -> None:
        registry, name = Registry(), "under-test"
        registry.providers.append(Provider(self.kind, name, "conformance", "0", self.component_class))
        again = self._loaded({"use": f"conformance:{name}"} | self._saved(), registry)
        for option in options_of(self.component_class):
            before, after = getattr(self.component, option), getattr(again, option)
            assert before == after, (
                f"option '{option}' is {before!r} before and {after!r} after it went through YAML: "
                "a resumed run would go on with other options than it began with."
            )

    def test_is_found_through_its_entry_point(self) -> None:
        providers = self._providers()
        name = self.component_class.__name__
        assert providers, (
            f"no entry point offers {name} as a {self.kind}: a user who installs the package cannot name it "
            "in a configuration. Is it installed (`pip install -e .`), does its pyproject.toml have "
            f"[project.entry-points.prefloop], and does the hook return this class?{_broken()}"
        )

    def test_listing_it_imports_nothing_heavy(self) -> None:
        for provider in self._providers():
            plugin.check_import_is_light(provider.distribution)

    def _saved(self) -> dict[str, Any]:
        try:
            plain = options_to_plain(self.component, {})
            return dict(yaml.safe_load(yaml_nodes.dump(plain)) or {})
        except (yaml.YAMLError, UserError) as error:
            raise AssertionError(
                f"its options cannot be written as YAML ({error}): a run that uses it could not be saved."
            ) from error

    def _loaded(self, settings: dict[str, Any], registry: Registry) -> Any:
        structurer = Structurer(Components(registry))
        try:
            return structurer.structure(from_plain(settings, Place(self.kind)), PROTOCOL_OF[self.kind])
        except InvalidError as error:
            raise AssertionError(
                f"its options do not load from the YAML that a run saves ({error.problems[0]}): "
                "the run could not be resumed."
            ) from error

    def _providers(self) -> list[Provider]:
        """The entries of the class in the registry."""
        if not self.registered:
            skip("the component belongs to no plugin (registered = False)")
        cls = self.component_class
        package = cls.__module__.partition(".")[0]
        offered = [p for p in Registry().providers if p.kind == self.kind]
        near = [p for p in offered if p.target is cls or re.split("[.:]", str(p.target))[0] == package]
        return [p for p in near if _is(p, cls)]


def _is(provider: Provider, cls: type) -> bool:
    try:
        return provider.load() is cls
    except UserError:
        return False


def _broken() -> str:
    broken = "; ".join(f"{b.distribution} ({b.error})" for b in Registry().broken)
    return f" Set aside as broken: {broken}." if broken else ""
