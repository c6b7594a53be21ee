"""The conformance kit: what every component of a kind must do, as tests that a plugin's tests inherit.

    class TestBrevity(JudgeSuite):
        component = Brevity()

is a test class for pytest with a dozen tests. The message of a failure is one sentence: what is wrong, and
what a user of the component would see of it. The kit imports no test runner: `outcomes` runs a suite without
one, and ``prefloop plugins check`` uses that.
"""

from __future__ import annotations

from prefloop_testing.checking import Outcome, outcomes
from prefloop_testing.judges import JudgeSuite
from prefloop_testing.runs import AlgorithmSuite, ObserverSuite
from prefloop_testing.samplers import SamplerSuite
from prefloop_testing.scored import BonusSuite, LossSuite
from prefloop_testing.suite import ComponentSuite, Note, PluginSuite

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
