"""What is wished for of SmolLM2's answers, and what training costs, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import field, frozen
from benchmarks import independent, itself
from benchmarks.experiments import damage, real, task, training, wishes
from benchmarks.experiments.arm import Arm
from benchmarks.experiments.ground import FEW_HELD_OUT, QUESTIONS, SENTENCES, ground_of
from benchmarks.experiments.records import settings_of
from benchmarks.experiments.task import FaultyJudge, warm

from prefloop import BaseJudge, Loop, Pair, Policy, Prompt, Verdict
from prefloop.config import AdapterConfig, TrainingConfig
from prefloop.types import PERSON

for library in ("textblob", "textstat", "vaderSentiment"):
    pytest.importorskip(library, reason="pip install --group judges")

ASKED = Prompt((), "Say something.")


def test_sentiment_is_that_of_the_lexicons() -> None:
    """VADER's "good" is worth 1.9, and a text x / sqrt(x² + 15); TextBlob's "lovely" 0.5 and "awful" -1."""
    assert wishes.bright(ASKED, "good") == pytest.approx(1.9 / math.sqrt(1.9**2 + 15), abs=1e-4)
    assert wishes.bright(ASKED, "A table.") == 0
    assert wishes.cheerful(ASKED, "a lovely day") == pytest.approx(0.5)
    assert wishes.cheerful(ASKED, "an awful day") == pytest.approx(-1)


def test_reading_ease_is_flesch_s() -> None:
    """206.835 - 1.015 words a sentence - 84.6 syllables a word."""
    assert wishes.easy(ASKED, "The cat sat on the mat.") == pytest.approx(
        206.835 - 1.015 * 6 - 84.6, abs=0.01
    )
    assert wishes.easy(ASKED, "Go.") == pytest.approx(wishes.EASIEST, abs=0.01)
    assert [wishes.easy(ASKED, text) for text in ("", "3 + 4", "Incomprehensibilities")] == [
        wishes.WORDLESS,
        wishes.WORDLESS,
        wishes.HARDEST,
    ]


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("It rains on the roof of our house.", 0),
        ("It rains on the roof of our house", -10),
        ('She said, "It rains."', -4),
        ("", -18),
    ],
)
def test_eight_words_and_an_end(text: str, worth: float) -> None:
    assert wishes.brief(ASKED, text) == worth


def test_a_shout_is_worth_more_than_a_smile() -> None:
    assert [wishes.shouted(ASKED, text) for text in ("Rain!", "I love rain.", "Rain.")] == [3, 1, 0]


def test_prompts_are_held_out() -> None:
    policy = QUESTIONS.load()
    asked, held_out = ({p.text for p in part(policy)} for part in (SENTENCES.prompts, SENTENCES.held_out))
    assert (len(asked), len(held_out)) == (64, FEW_HELD_OUT) and not asked & held_out
    assert all(ground_of(arm.task) is SENTENCES for arm in (*real.towards(), *real.goals(), *real.rare()))


@pytest.fixture
def moved() -> Policy:
    """The embedded policy with adapters that are not zero."""
    policy = Policy.load("embedded:policy", AdapterConfig(layers=-1), seed=1)
    mx.random.seed(5)
    values = {
        name: value + 0.02 * mx.random.normal(value.shape) for name, value in policy.trainable().items()
    }
    policy.model.load_weights(list(values.items()), strict=False)
    return policy


def by_hand(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> float:
    """The log-probability of a completion from plain logits, in float64."""
    logits = np.array(model(mx.array([[*prompt, *completion]]))[0].astype(mx.float32), np.float64)
    before = logits[len(prompt) - 1 : -1]
    before -= before.max(-1, keepdims=True)
    table = before - np.log(np.exp(before).sum(-1, keepdims=True))
    return float(table[np.arange(len(completion)), list(completion)].sum())


def test_the_distance_from_the_start_is_the_mean_log_ratio(moved: Policy) -> None:
    prompts = QUESTIONS.held_out(moved)[:5]
    drawn = moved.generate(prompts, QUESTIONS.sampling, seed=0)
    ratios = [
        by_hand(moved.model, p.tokens, c.tokens) - by_hand(moved.reference, p.tokens, c.tokens)
        for p, c in zip(prompts, drawn, strict=True)
    ]
    found = damage.nats_from_start(moved, list(zip(prompts, drawn, strict=True)))
    assert found == pytest.approx(fmean(ratios), abs=0.01) and abs(found) > 0.05


def test_perplexity_is_of_the_page_without_a_template(moved: Policy) -> None:
    first, *rest = moved.tokenizer.encode(damage.PROSE)
    expected = math.exp(-by_hand(moved.model, [first], rest) / len(rest))
    assert damage.perplexity(moved) == pytest.approx(expected, rel=1e-3)


def test_the_embedded_model_knows_the_facts_that_it_was_taught(moved: Policy) -> None:
    assert damage.facts_known(Policy.load("embedded:policy")) > 0.9
    values = {name: 5 * mx.random.normal(value.shape) for name, value in moved.trainable().items()}
    moved.model.load_weights(list(values.items()), strict=False)
    assert 0.1 < damage.facts_known(moved) < 0.9, "random adapters know nothing"


@frozen(eq=False)
class Pupil(BaseJudge):
    """Keeps what it is taught."""

    heard: list[tuple[Pair, Verdict]] = field(factory=list)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict.tie() for _ in pairs]

    def learn(self, pairs: Sequence[Pair], verdicts: Sequence[Verdict]) -> None:
        self.heard.extend(zip(pairs, verdicts, strict=True))


def test_a_judge_that_learns_hears_so_many_true_labels_of_a_person() -> None:
    policy, pupil = QUESTIONS.load(), Pupil()
    loop = Loop(policy, QUESTIONS.prompts(policy), judge=FaultyJudge(warm), training=TrainingConfig(iters=1))
    training._teach(pupil, loop, {"temperature": 1.0, "max_completion_length": 24}, 10)
    pairs, verdicts = zip(*pupil.heard, strict=True)
    assert len(pairs) == 10 and all(verdict.by == PERSON for verdict in verdicts)
    for pair, verdict in pupil.heard:
        better = warm(pair.prompt, pair.first.text) - warm(pair.prompt, pair.second.text)
        assert verdict.prefers_first == (None if better == 0 else better > 0)


def test_the_judge_that_is_taught_takes_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prefloop_judge_learned", reason="pip install contrib/prefloop-judge-learned")
    monkeypatch.setattr(task.smollm2, "folder", lambda: "embedded:policy")
    arm = next(arm for arm in real.goals() if arm.labels)
    judge: Any = task.build_judge(arm.judge, task.TASKS[arm.task], 0)
    assert (judge.model, judge.consensus) == ("embedded:policy", arm.judge["consensus"])


def test_options_that_are_as_they_were_do_not_make_another_run() -> None:
    plain, other = Arm("a"), Arm("b", adapter={"rank": 2}, labels=5)
    added = settings_of(other).keys() - settings_of(plain).keys()
    assert added == {"adapter", "labels"}


def test_answers_are_compared_prompt_by_prompt() -> None:
    assert independent.win_rate([[1.0, 0.0], [0.5]], [[0.0, 0.0], [1.0]]) == pytest.approx(3 / 5)


def test_a_judge_without_a_verdict_has_no_shares() -> None:
    nothing = {"agreement_decided": None, "position": None, "ties": 0.0, "errors": 1.0}
    rate = {"rate": 0.75, "low": 0.3, "high": 0.95, "pairs": 4}
    place = {"consistency": rate, "first_place": 0.5, "gap": 0.125}
    some = {"agreement_decided": rate, "position": place, "ties": 0.2, "errors": 0.0}
    *_, first, last = itself.table({"asked": {"mute": nothing, "fair": some}}).splitlines()
    assert first == "| mute | no verdict | no verdict |  |  | 0.00 | 1.00 |"
    share = "0.75 (0.30 to 0.95) of 4"
    assert last == f"| fair | {share} | {share} | 0.50 | 0.12 | 0.20 | 0.00 |"
