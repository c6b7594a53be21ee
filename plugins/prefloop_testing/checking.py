"""Runs suites without a test runner: a single one, or the one for each plugin and component installed.

A component that is installed is checked as its defaults make it. Where a required option, a model, a person
or a network is missing, it is checked as far as its class goes.
"""

from __future__ import annotations

import contextlib
import io
import unittest
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from attrs import frozen

from prefloop.components import Base, BaseJudge, Observer, adapt
from prefloop.config.options import options_of
from prefloop.errors import UserError, did_you_mean
from prefloop.registry import KINDS, Provider, Registry, canonical
from prefloop_testing.judges import JudgeSuite
from prefloop_testing.runs import AlgorithmSuite, ObserverSuite
from prefloop_testing.samplers import SamplerSuite
from prefloop_testing.scored import BonusSuite, LossSuite
from prefloop_testing.suite import ComponentSuite, Note, PluginSuite, listed, skip

SUITES: Mapping[str, type[ComponentSuite]] = {
    suite.kind: suite
    for suite in (SamplerSuite, JudgeSuite, LossSuite, BonusSuite, AlgorithmSuite, ObserverSuite)
}


@frozen
class Outcome:
    """The outcome of one test of a suite."""

    test: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    notes: tuple[str, ...] = ()


@frozen
class Checked:
    """A plugin or one of its components, and the outcomes of its tests."""

    kind: str
    name: str
    outcomes: tuple[Outcome, ...]

    def having(self, status: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]


def outcomes(suite: type) -> Iterator[Outcome]:
    """Run the tests of a suite one after the other, each on an instance of its own.

    Tests of base classes come first. A subclass leaves a test out, as for pytest, by setting it to None.
    """
    names = dict.fromkeys(n for cls in reversed(suite.__mro__) for n in vars(cls) if n.startswith("test_"))
    getattr(suite, "setup_class", lambda: None)()
    try:
        for name in names:
            if callable(getattr(suite, name)):
                yield _outcome(suite(), name)
    finally:
        getattr(suite, "teardown_class", lambda: None)()


def _outcome(suite: Any, name: str) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            getattr(suite, name)()
        except unittest.SkipTest as skipped:
            return Outcome(name, "skipped", str(skipped))
        except AssertionError as failed:
            return Outcome(name, "failed", str(failed))
        except Exception as error:
            return Outcome(name, "failed", f"{type(error).__name__}: {error}")
    return Outcome(name, "passed", notes=tuple(str(w.message) for w in caught if w.category is Note))


def check(distribution: str | None = None) -> Iterator[Checked]:
    """Check the plugins of a distribution, of a Python file, or of all that are installed.

    Raises `UserError` where it offers none.
    """
    registry = Registry()
    if distribution is not None and distribution.endswith(".py"):
        yield from _check_components(registry, registry.add_file(distribution), registered=False)
        return
    offered = registry.installed - registry.disabled
    wanted = sorted(offered) if distribution is None else [canonical(distribution)]
    if not offered.issuperset(wanted):
        raise UserError(
            f"no plugin of '{distribution}' is installed and enabled.{did_you_mean(wanted[0], offered)}"
        )
    for name in wanted:
        yield Checked("plugin", name, _quietly(PluginSuite, distribution=name))
        yield from _check_components(registry, name)


def _check_components(registry: Registry, distribution: str, **attributes: Any) -> Iterator[Checked]:
    for provider in registry.providers:
        if provider.distribution == distribution:
            yield Checked(provider.kind, provider.qualified, _check_component(provider, attributes))


def _check_component(provider: Provider, attributes: Mapping[str, Any]) -> tuple[Outcome, ...]:
    try:
        cls = provider.load()
    except UserError as error:
        return (Outcome("test_can_be_loaded", "failed", str(error)),)
    component = _from_defaults(provider.kind, cls)
    return _quietly(SUITES[provider.kind], component_class=cls, component=component, **attributes)


def _from_defaults(kind: str, cls: type) -> Any:
    """A component of the class, ready for use, or a property in its place that skips the test."""
    required = listed(name for name, option in options_of(cls).items() if option.required)
    if required:
        return _skipping(f"it needs the option {required}")
    try:
        component = cls()
        if kind == "algorithm":  # which has no abilities and prepares nothing
            return component
        adapted = adapt(component, KINDS[kind].base)
        if isinstance(adapted, BaseJudge) and adapted.interactive:
            return _skipping("it needs a person")
        if isinstance(adapted, Base | Observer):
            adapted.prepare()
    except (ValueError, TypeError, UserError) as error:
        return _skipping(f"it cannot be made from its defaults: {error}".splitlines()[0])
    return component


def _skipping(reason: str) -> property:
    return property(lambda suite: skip(reason))


def _quietly(suite: type, **attributes: Any) -> tuple[Outcome, ...]:
    """Run a suite with these attributes, and drop what the component prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return tuple(outcomes(type("Installed", (suite,), attributes)))
