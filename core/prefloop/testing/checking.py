"""The conformance checks on what is installed: each plugin as a whole, and each of its components.

A component is checked as its defaults make it. One that cannot be had that way, because it has a required
option or needs a model, a terminal or a network, is checked as far as its class goes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from prefloop.config.options import options_of
from prefloop.errors import UserError, did_you_mean
from prefloop.registry import Provider, Registry, canonical
from prefloop.testing.algorithms import AlgorithmSuite
from prefloop.testing.bonuses import BonusSuite
from prefloop.testing.judges import JudgeSuite
from prefloop.testing.losses import LossSuite
from prefloop.testing.observers import ObserverSuite
from prefloop.testing.plugin import PluginSuite
from prefloop.testing.running import Outcome, outcomes, skip
from prefloop.testing.samplers import SamplerSuite
from prefloop.testing.suite import ComponentSuite

SUITES: Mapping[str, type[ComponentSuite]] = {
    suite.kind: suite
    for suite in (SamplerSuite, JudgeSuite, LossSuite, BonusSuite, AlgorithmSuite, ObserverSuite)
}


@frozen
class Checked:
    """A plugin or one of its components, and what became of its tests."""

    kind: str
    name: str
    outcomes: tuple[Outcome, ...]

    def having(self, status: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]


def check(distribution: str | None = None) -> Iterator[Checked]:
    """Check the plugins of a distribution, or of all. Raises `UserError` where it offers none."""
    registry = Registry()
    offered = {p.distribution for p in registry.providers} | {b.distribution for b in registry.broken}
    wanted = sorted(offered) if distribution is None else [canonical(distribution)]
    if not offered.issuperset(wanted):
        raise UserError(
            f"no plugin of '{distribution}' is installed and enabled.{did_you_mean(wanted[0], offered)}"
        )
    for name in wanted:
        suite = type("Installed", (PluginSuite,), {"distribution": name})
        yield Checked("plugin", name, _quietly(suite))
        for provider in registry.providers:
            if provider.distribution == name:
                yield Checked(provider.kind, provider.qualified, _check_component(provider))


def _check_component(provider: Provider) -> tuple[Outcome, ...]:
    try:
        cls = provider.load()
    except UserError as error:
        return (Outcome("test_can_be_loaded", "failed", str(error)),)
    found: dict[str, Any] = {"component_class": cls}
    try:
        found["component"] = _ready(cls)
    except _UnavailableError as unavailable:
        reason = str(unavailable)
        found["component"] = property(lambda suite: skip(reason))
    return _quietly(type("Installed", (SUITES[provider.kind],), found))


class _UnavailableError(Exception):
    """Why a component cannot be had from its defaults."""


def _ready(cls: type) -> Any:
    required = [f"'{name}'" for name, option in options_of(cls).items() if option.required]
    if required:
        raise _UnavailableError(f"it needs the option {' and '.join(required)}")
    try:
        component = cls()
        if getattr(component, "interactive", False):
            raise _UnavailableError("it needs a person")
        if hasattr(component, "prepare"):
            component.prepare()
    except (ValueError, TypeError, UserError) as error:
        raise _UnavailableError(f"it cannot be had from its defaults: {error}".splitlines()[0]) from error
    return component


def _quietly(suite: type) -> tuple[Outcome, ...]:
    """Run a suite; what a component prints, as an observer may, does not show."""
    with contextlib.redirect_stdout(io.StringIO()):
        return tuple(outcomes(suite))
