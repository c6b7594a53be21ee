"""The conformance kit: what every component of a kind must do, as tests that a plugin's tests inherit.

    class TestBrevity(JudgeSuite):
        component = Brevity()

is a test class for pytest with a dozen tests. A failure says in one sentence what a user of the component
would see go wrong. The kit itself imports no test runner: `outcomes` runs a suite without one, which is what
``prefloop plugins check`` does. Each suite is imported when it is asked for, so that the tests of a judge do
not wait for what those of a sampler need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefloop.testing.algorithms import AlgorithmSuite
    from prefloop.testing.bonuses import BonusSuite
    from prefloop.testing.judges import JudgeSuite
    from prefloop.testing.losses import LossSuite
    from prefloop.testing.observers import ObserverSuite
    from prefloop.testing.plugin import PluginSuite
    from prefloop.testing.running import Note, Outcome, outcomes
    from prefloop.testing.samplers import SamplerSuite
    from prefloop.testing.suite import ComponentSuite

_HOME = {
    "AlgorithmSuite": "algorithms",
    "BonusSuite": "bonuses",
    "ComponentSuite": "suite",
    "JudgeSuite": "judges",
    "LossSuite": "losses",
    "Note": "running",
    "ObserverSuite": "observers",
    "Outcome": "running",
    "PluginSuite": "plugin",
    "SamplerSuite": "samplers",
    "outcomes": "running",
}

__all__ = [
    "AlgorithmSuite",
    "BonusSuite",
    "ComponentSuite",
    "JudgeSuite",
    "LossSuite",
    "Note",
    "ObserverSuite",
    "Outcome",
    "PluginSuite",
    "SamplerSuite",
    "outcomes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'prefloop.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"prefloop.testing.{_HOME[name]}"), name)
