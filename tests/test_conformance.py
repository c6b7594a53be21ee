"""The bundled components pass the conformance kit, as those of other people are asked to."""

from __future__ import annotations

from prefloop import Policy
from prefloop_plugins.algorithms import OfflineDpo, OnlineDpo, Xpo, XpoPaper
from prefloop_plugins.bonuses import Kl, Optimism
from prefloop_plugins.judges.cascade import CascadeJudge
from prefloop_plugins.judges.committee import CommitteeJudge
from prefloop_plugins.judges.function import FunctionJudge
from prefloop_plugins.judges.human import HumanJudge
from prefloop_plugins.judges.label import LabelJudge
from prefloop_plugins.judges.llm import LlmJudge
from prefloop_plugins.judges.rule import RuleJudge
from prefloop_plugins.losses import Dpop, Hinge, Ipo, Sigmoid
from prefloop_plugins.progress import ProgressObserver
from prefloop_plugins.samplers import DatasetSampler, PolicyReferenceSampler, PolicySampler
from prefloop_testing import (
    AlgorithmSuite,
    BonusSuite,
    JudgeSuite,
    LossSuite,
    ObserverSuite,
    PluginSuite,
    SamplerSuite,
)


def shortness(prompt: str, completion: str) -> float:
    return -float(len(completion))


class TestBundled(PluginSuite):
    distribution = "prefloop"


class TestRule(JudgeSuite):
    component = RuleJudge(prefer=["moo", "hello"], length="shorter", temperature=0.5)


class TestFunction(JudgeSuite):
    component = FunctionJudge(score=f"{__name__}:shortness", temperature=20.0)


class TestHuman(JudgeSuite):
    component = HumanJudge(seed=3)


class TestLlm(JudgeSuite):
    component = LlmJudge(model="embedded:judge")


class TestLabel(JudgeSuite):
    component = LabelJudge()


class TestCommittee(JudgeSuite):
    component = CommitteeJudge([RuleJudge(length="shorter"), RuleJudge(prefer=["o"])], by="mean")


class TestCascade(JudgeSuite):
    component = CascadeJudge([RuleJudge(prefer=["hello"]), RuleJudge(length="longer")], margin=0.2)


class TestSigmoid(LossSuite):
    component = Sigmoid()


class TestSigmoidSmoothed(LossSuite):
    component = Sigmoid(beta=0.5, soft_labels=True, label_smoothing=0.1)


class TestHinge(LossSuite):
    component = Hinge(beta=0.2)


class TestIpo(LossSuite):
    component = Ipo()


class TestIpoOfSums(LossSuite):
    component = Ipo(beta=0.3, average="sums")


class TestDpop(LossSuite):
    component = Dpop()


class TestDpopOutside(LossSuite):
    component = Dpop(delta=2.0, penalty="outside")


class TestKl(BonusSuite):
    component = Kl(alpha=[1e-3, 1e-5])


class TestKlHalfSquares(BonusSuite):
    component = Kl(estimator="k2")


class TestKlSampled(BonusSuite):
    component = Kl(estimator="sampled")


class TestOptimism(BonusSuite):
    component = Optimism(alpha=0.1)


class TestPolicySampler(SamplerSuite):
    component = PolicySampler(max_completion_length=6)


class TestPolicySamplerGreedy(SamplerSuite):
    component = PolicySampler(temperature=0.0, max_completion_length=4)


class TestPolicyReferenceSampler(SamplerSuite):
    component = PolicyReferenceSampler(max_completion_length=12)


class TestDatasetSampler(SamplerSuite):
    component = DatasetSampler()


class TestOnlineDpo(AlgorithmSuite):
    component = OnlineDpo()


class TestXpo(AlgorithmSuite):
    component = Xpo(alpha=[1e-4, 1e-5], estimator="k2")


class TestXpoPaper(AlgorithmSuite):
    component = XpoPaper()


class TestOfflineDpo(AlgorithmSuite):
    component = OfflineDpo()


class TestProgress(ObserverSuite):
    component = ProgressObserver()


def test_the_samplers_see_both_ends() -> None:
    """The kit's stop rule has something to bite on: some completions stop within 6 tokens, some do not."""
    suite = TestPolicySampler()
    assert isinstance(suite.policy, Policy)
    ends = {c.stopped for pair in suite.sample() for c in (pair.first, pair.second)}
    assert ends == {True, False}
