"""The conformance kit finds faulty components and plugins, with a message that names the fault."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from attrs import define, evolve, field, frozen

from prefloop import BaseJudge, BaseSampler, Pair, Policy, Progress, Prompt, Sampling, Scores, Verdict
from prefloop_testing import (
    BonusSuite,
    ComponentSuite,
    JudgeSuite,
    LossSuite,
    ObserverSuite,
    PluginSuite,
    SamplerSuite,
    outcomes,
)
from prefloop_testing.suite import check_import_is_light
from support.packages import add_metadata

Pairs = Sequence[Pair]


def longer(pair: Pair) -> Verdict:
    return Verdict.from_scores(len(pair.first.text), len(pair.second.text), temperature=20)


class OneForAll:
    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [Verdict(1.0)]


class OutOfRange:
    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [Verdict(float(len(p.first.text))) for p in pairs]


class Mutating:
    def judge(self, pairs: list[Pair]) -> list[Verdict]:
        pairs.sort(key=lambda p: p.first.text)
        return [longer(p) for p in pairs]


class Relative:
    """Scores against the batch's mean."""

    def judge(self, pairs: Pairs) -> list[Verdict]:
        mean = sum(len(p.first.text) for p in pairs) / max(len(pairs), 1)
        return [Verdict.from_scores(len(p.first.text), mean, temperature=20) for p in pairs]


class FirstIsBest:
    symmetric = True

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [Verdict(0.9) for _ in pairs]


class Fragile:
    """Divides by the length of an answer."""

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [Verdict.from_scores(1 / len(p.first.text), 1 / len(p.second.text)) for p in pairs]


class Reducing:
    def __call__(self, scores: Scores) -> mx.array:
        return mx.logaddexp(-0.1 * scores.margin, 0.0).mean()


class Rising:
    def __call__(self, scores: Scores) -> mx.array:
        return mx.logaddexp(0.1 * scores.margin, 0.0)


class Overflowing:
    def __call__(self, scores: Scores) -> mx.array:
        return -mx.log(mx.sigmoid(0.1 * scores.margin))


class Uncompilable:
    def __call__(self, scores: Scores) -> mx.array:
        margin = scores.margin
        if bool((margin.sum() > 0).item()):
            return mx.logaddexp(-0.2 * margin, 0.0)
        return mx.logaddexp(-0.1 * margin, 0.0)


class Detached:
    def __call__(self, scores: Scores) -> mx.array:
        return mx.logaddexp(-0.1 * (scores.policy_chosen - mx.stop_gradient(scores.policy_rejected)), 0.0)


class NotReferenceFree:
    needs = frozenset[str]()

    def __call__(self, scores: Scores) -> mx.array:
        return mx.logaddexp(-0.1 * scores.margin, 0.0)


class WrongSign:
    sign = 1
    needs = frozenset({"kl"})

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        assert scores.kl_chosen is not None
        return -0.1 * scores.kl_chosen


class Scalar:
    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        return 0.1 * scores.policy_chosen.sum()


class NotZero:
    zero_at_reference = True

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        return -0.1 * scores.policy_chosen


class Idle:
    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        return 0.1 * scores.chosen_tokens


class Lost:
    """Rewards the less the more it has seen, and forgets that in a checkpoint."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, scores: Scores, progress: Progress) -> mx.array:
        return scores.policy_chosen / (1 + self.seen)

    def learn(self, pairs: Pairs, verdicts: Sequence[Verdict]) -> None:
        self.seen += len(pairs)

    def state(self) -> dict[str, mx.array]:
        return {"version": mx.array(1)}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self.seen = 0


SHORT = Sampling(max_tokens=8)


@frozen
class Drawing:
    """A right sampler, for wrong ones to begin from."""

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        drawn = (policy.generate(prompts, SHORT, seed=progress.seed + i) for i in (0, 1))
        return [Pair(*row) for row in zip(prompts, *drawn, strict=True)]


class Stripping(Drawing):
    """Drops the stop token, as decoding and encoding again does."""

    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        pairs = super().sample(policy, prompts, progress)
        return [evolve(p, first=evolve(p.first, tokens=p.first.tokens[:-1])) for p in pairs]


class Unseeded(Drawing):
    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        return super().sample(policy, prompts, evolve(progress, seed=random.getrandbits(30)))


class Retelling(Drawing):
    def sample(self, policy: Policy, prompts: Sequence[Prompt], progress: Progress) -> list[Pair]:
        pairs = super().sample(policy, prompts, progress)
        return [evolve(p, second=evolve(p.second, text=p.second.text + "!")) for p in pairs]


class Deaf:
    def step_finshed(self, step: Any) -> None:
        """Never called."""


class Symetric:
    symetric = True

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [longer(p) for p in pairs]


class Prepairing(BaseJudge):
    def prepair(self) -> None:
        """Never called."""

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [longer(p) for p in pairs]


class Needing:
    need = frozenset({"kl"})

    def __call__(self, scores: Scores) -> mx.array:
        return -scores.margin


class Checking(BaseSampler):
    def check_prompt(self, prompts: Any) -> None:
        """Never called."""

    def sample(self, policy: Any, prompts: Any, progress: Any) -> list[Pair]:
        return []


class Forgetful(BaseJudge):
    """Is the surer the more labels it has learnt from, and forgets them in a checkpoint."""

    def __init__(self) -> None:
        self.labels = 0

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [Verdict(0.5 + self.labels / (2 * self.labels + 9)) for _ in pairs]

    def learn(self, pairs: Pairs, verdicts: Sequence[Verdict]) -> None:
        self.labels += len(verdicts)

    def state(self) -> dict[str, mx.array]:
        return {"labels": mx.array(self.labels)}

    def restore(self, state: Mapping[str, mx.array]) -> None:
        self.labels = 0


class Unsaid(Forgetful):
    """Says in its state what it has not restored."""

    def state(self) -> dict[str, mx.array]:
        return {"version": mx.array(1)}


@frozen
class Helpless:
    beta: float = 0.1

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [longer(p) for p in pairs]


def doubled(value: float) -> float:
    return 2 * value


@define
class Doubling:
    """Each time it is made, it doubles its option."""

    beta: float = field(default=0.1, converter=doubled, metadata={"help": "A number."})

    def judge(self, pairs: Pairs) -> list[Verdict]:
        return [longer(p) for p in pairs]


FAULTS: list[tuple[type[ComponentSuite], Any, str, str]] = [
    (JudgeSuite, OneForAll, "test_one_verdict_per_pair", "judge() gave 1 verdicts for 4 pairs"),
    (
        JudgeSuite,
        OutOfRange,
        "test_verdicts_are_valid",
        "the judge raised ValueError (a verdict's probability",
    ),
    (JudgeSuite, Mutating, "test_changes_nothing", "the judge changed the pairs that it was given"),
    (JudgeSuite, Relative, "test_a_pair_alone_as_in_a_batch", "would depend on training.batch_size"),
    (JudgeSuite, FirstIsBest, "test_swapped_answers", "swapping the answers moves 4 of 4 probabilities"),
    (JudgeSuite, Fragile, "test_odd_answers_get_verdicts", "the judge raised ZeroDivisionError"),
    (JudgeSuite, Forgetful, "test_what_it_learns_is_in_its_state", "restore(state()) changes the state"),
    (JudgeSuite, Unsaid, "test_what_it_learns_is_in_its_state", "restore(state()) changes the verdicts"),
    (JudgeSuite, Helpless, "test_every_option_has_help", "'beta' has no help"),
    (JudgeSuite, Doubling, "test_options_survive_yaml", "option 'beta' is 0.2 before and 0.4 after"),
    (LossSuite, Reducing, "test_one_value_per_pair", "shape (), not (5,): it reduces"),
    (LossSuite, Rising, "test_falls_as_the_margin_grows", "which does not fall"),
    (LossSuite, Overflowing, "test_finite_at_extreme_margins", "at a margin of -10000 it is inf"),
    (LossSuite, Uncompilable, "test_same_compiled", "cannot be compiled by mx.compile"),
    (LossSuite, Detached, "test_gradient_is_that_of_its_values", "its gradient in the rejected log-prob"),
    (LossSuite, NotReferenceFree, "test_one_value_per_pair", "Does `needs` leave something out?"),
    (BonusSuite, WrongSign, "test_sign", "its class says sign = 1, but a pair is worth -0.0225"),
    (BonusSuite, Scalar, "test_one_value_per_pair", "shape (), not (5,): it reduces"),
    (BonusSuite, NotZero, "test_zero_where_policy_equals_reference", "its class says zero_at_reference"),
    (BonusSuite, Idle, "test_has_a_gradient", "it costs time and changes nothing"),
    (BonusSuite, Lost, "test_what_it_learns_is_in_its_state", "restore(state()) changes its values"),
    (SamplerSuite, Stripping, "test_the_stop_token_is_kept", "has no stop token at its end"),
    (SamplerSuite, Unseeded, "test_seeded", "the same progress.seed gave other completions"),
    (SamplerSuite, Retelling, "test_ids_and_text_agree", "its tokens read"),
    (ObserverSuite, Deaf, "test_sees_something", "it has no method that is called"),
    (ObserverSuite, Deaf, "test_no_ability_is_misspelt", "did you mean 'step_finished'?"),
    (JudgeSuite, Symetric, "test_no_ability_is_misspelt", "it has 'symetric', which nothing reads: did you"),
    (JudgeSuite, Prepairing, "test_no_ability_is_misspelt", "did you mean 'prepare'?"),
    (LossSuite, Needing, "test_no_ability_is_misspelt", "did you mean 'needs'?"),
    (SamplerSuite, Checking, "test_no_ability_is_misspelt", "did you mean 'check_prompts'?"),
]


def failures(suite: type, *tests: str) -> dict[str, str]:
    """The messages of the tests that failed, of `tests` alone where given."""
    chosen = type("Chosen", (suite,), dict.fromkeys(_others(suite, tests))) if tests else suite
    return {o.test: o.message for o in outcomes(chosen) if o.status == "failed"}


def _others(suite: type, tests: Sequence[str]) -> list[str]:
    return [name for name in dir(suite) if name.startswith("test_") and name not in tests]


@pytest.mark.parametrize(
    ("suite", "faulty", "test", "message"), FAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_fault_is_named(suite: type[ComponentSuite], faulty: Any, test: str, message: str) -> None:
    planted = type("Planted", (suite,), {"component": faulty(), "registered": False})
    assert message in failures(planted, test).get(test, "it passed")


def test_a_right_component_passes() -> None:
    """The sampler that the wrong ones begin from, and a judge without their faults."""
    right = type("Right", (SamplerSuite,), {"component": Drawing(), "registered": False})
    assert failures(right) == {}


def test_a_class_without_entry_point_fails() -> None:
    planted = type("Planted", (JudgeSuite,), {"component": Helpless()})
    message = failures(planted, "test_is_found_through_its_entry_point")[
        "test_is_found_through_its_entry_point"
    ]
    assert message.startswith("no entry point offers Helpless as a judge")
    assert "pip install -e ." in message


def install(folder: Path, name: str, code: str) -> None:
    """A distribution as pip leaves it, with one module."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    add_metadata(folder, name, module)


HEAVY = """
import mlx.core as mx
from prefloop import BaseJudge, BaseSampler, hookimpl

class Loss:
    def __call__(self, scores):
        return mx.logaddexp(-scores.margin, 0.0)

@hookimpl
def prefloop_losses():
    return {"sigmoid": Loss}
"""


def test_a_plugin_that_imports_mlx_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme-heavy", HEAVY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PREFLOOP_STRICT_PLUGINS", "")
    suite = type("Planted", (PluginSuite,), {"distribution": "acme-heavy"})
    found = {o.test: o for o in outcomes(suite)}
    heavy = found.pop("test_listing_it_imports_nothing_heavy")
    assert heavy.status == "failed"
    assert heavy.message.startswith("importing 'acme_heavy' imports mlx: every `prefloop --help`")
    assert {o.status for o in found.values()} == {"passed"}
    assert "users have to write 'acme-heavy:sigmoid'" in found["test_no_name_is_hidden"].notes[0]


@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("acme-leaves", "import sys\nsys.exit(3)", "it ends the process with 3"),
        ("acme-ends", "import sys\nsys.exit()", "it ends the process with 0"),
        ("acme-dies", "import os\nos._exit(0)", "it ends the process with 0"),
        ("acme-raises", "raise RuntimeError('no licence\\nfound here')", "RuntimeError: no licence"),
    ],
)
def test_why_a_plugin_does_not_import_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str, reason: str
) -> None:
    install(tmp_path, name, fault)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError) as caught:
        check_import_is_light(name)
    assert str(caught.value) == (
        f"'{name.replace('-', '_')}' cannot be imported ({reason}): "
        "prefloop sets the plugin aside, and no component of it can be used."
    )


def test_what_a_plugin_prints_is_no_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme-talks", "print('mlx is not here')\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_import_is_light("acme-talks")


def test_a_plugin_that_does_not_import_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme-broken", "import a_library_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PREFLOOP_STRICT_PLUGINS", "")
    suite = type("Planted", (PluginSuite,), {"distribution": "acme-broken"})
    messages = failures(suite)
    assert "set aside as broken (ModuleNotFoundError" in messages["test_it_is_installed_and_imports"]
    assert "no component of it can be used" in messages["test_listing_it_imports_nothing_heavy"]
