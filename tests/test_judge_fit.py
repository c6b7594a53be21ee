"""`prefloop judge --fit`: terms of the llm judge from a person's labels, beside independent references."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import field, frozen
from click.testing import CliRunner

from prefloop import BaseJudge, Pair, Verdict
from prefloop.cli import main
from prefloop.config import load_config
from prefloop_plugins.judging import fit as fitting
from prefloop_plugins.judging.fit import (
    Questions,
    chosen,
    fit,
    folds,
    maximum,
    options_of_judge,
    questions_of,
)
from prefloop_plugins.judging.pair_files import LabelledPair
from prefloop_plugins.judging.report import calibration
from prefloop_plugins.judging.verdicts import Judged, judge_pairs
from support.judge_models import pair

PLAIN = {"temperature": 1.0, "position": 0.0, "length": 0.0}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@frozen
class Biased(BaseJudge):
    """Knows the log-odds that stand in the prompt, and adds its likings as the fitted model has them."""

    overconfidence: float = 1.0
    likes_place: float = 0.0
    likes_length: float = 0.0
    both: bool = True
    temperature: float = 1.0
    position: float = 0.0
    length: float = 0.0
    symmetric: bool = field(default=False, init=False)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self._verdict(one) for one in pairs]

    def _verdict(self, asked: Pair) -> Verdict:
        place = 1 if float(asked.prompt.text.split()[1]) == float(asked.first.text.split()[0]) else -1
        truth = place * float(asked.prompt.text.split()[0])
        d = math.log((len(asked.first.text) + 1) / (len(asked.second.text) + 1))
        orders = (self._first(truth, 1, d), self._first(truth, -1, d))
        if not self.both:
            return Verdict.from_probability(orders[0])
        return Verdict.from_probability(sum(orders) / 2, orders=orders)

    def _first(self, truth: float, shown: int, d: float) -> float:
        x = self.overconfidence * (truth + self.likes_place * shown + self.likes_length * d)
        return sigmoid(x / self.temperature - self.position * shown - self.length * d)


def labelled(count: int, seed: int = 0) -> list[LabelledPair]:
    """Pairs with labels drawn from the probabilities in their prompts; lengths have no part in them."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        truth = random.normal(0, 1.5)
        texts = (f"{i} " + "a" * random.integers(3, 60), f"{i + 0.5} " + "b" * random.integers(3, 60))
        label = "first" if random.random() < sigmoid(truth) else "second"
        found.append(LabelledPair(pair(f"{truth} {i}", *texts), label))  # type: ignore[arg-type]
    return found


def asked(judge: Biased, pairs: Sequence[LabelledPair]) -> Judged:
    return judge_pairs(judge, [one.pair for one in pairs])


def by_gradient(questions: Questions, free: Sequence[str]) -> dict[str, float]:
    """The same maximum by plain gradient descent on loops, in float64."""
    weights = {"temperature": 1.0, "position": 0.0, "length": 0.0}
    per_pair = np.bincount(questions.pair)
    for _ in range(20000):
        slope = dict.fromkeys(weights, 0.0)
        z = weights["temperature"] * questions.x
        z = z - weights["position"] * questions.shown - weights["length"] * questions.longer
        error = (1 / (1 + np.exp(-z)) - questions.label[questions.pair]) / per_pair[questions.pair]
        slope["temperature"] = float((error * questions.x).mean())
        slope["position"] = float((error * -questions.shown).mean())
        slope["length"] = float((error * -questions.longer).mean())
        for term in free:
            weights[term] -= 0.5 * slope[term]
    return {**weights, "temperature": 1 / weights["temperature"]}


@pytest.mark.parametrize("both", [True, False])
def test_the_fit_recovers_simulated_likings(both: bool) -> None:
    pairs = labelled(3000)
    judge = Biased(overconfidence=2.5, likes_place=1.2, likes_length=0.8, both=both)
    found = fit(judge, pairs, asked(judge, pairs))
    assert found.terms == {
        "temperature": pytest.approx(2.5, rel=0.15),
        "position": pytest.approx(1.2, abs=0.25),
        "length": pytest.approx(0.8, abs=0.25),
    }
    assert found.log_loss.high < 0
    assert found.log_loss.after < found.log_loss.before
    assert found.ece.after < 0.05 < found.ece.before


def test_terms_of_a_judge_that_has_some_already_are_those_to_set() -> None:
    pairs = labelled(2000)
    plain = Biased(overconfidence=2.0, likes_length=0.8)
    partly = Biased(overconfidence=2.0, likes_length=0.8, temperature=3.0, position=0.2, length=-0.5)
    raw, again = (questions_of(j, options_of_judge(j), pairs, asked(j, pairs)) for j in (plain, partly))
    np.testing.assert_allclose(raw.x, again.x, rtol=1e-6, atol=1e-6)


def test_a_judge_without_likings_is_left_alone() -> None:
    alarms = 0
    for seed in range(16):
        pairs = labelled(120, seed)
        alarms += bool(fit(Biased(), pairs, asked(Biased(), pairs)).terms)
    assert alarms <= 2  # 5 % of 16 is 1


def test_a_term_that_does_not_help_is_not_recommended_beside_one_that_does() -> None:
    pairs = labelled(800, 3)
    judge = Biased(overconfidence=3.0)
    assert set(fit(judge, pairs, asked(judge, pairs)).terms) == {"temperature"}


@pytest.mark.parametrize("free", [("temperature",), ("position", "length"), fitting.TERMS])
def test_newton_finds_the_maximum_that_descent_finds(free: tuple[str, ...]) -> None:
    pairs = labelled(150, 1)
    judge = Biased(overconfidence=1.5, likes_place=0.5, likes_length=0.5)
    questions = questions_of(judge, PLAIN, pairs, asked(judge, pairs))
    assert maximum(questions, free, PLAIN) == pytest.approx(by_gradient(questions, free), abs=1e-4)


def test_where_something_separates_the_labels_there_is_no_maximum() -> None:
    pairs = labelled(60)
    sure = [
        LabelledPair(p.pair, "first" if float(p.pair.prompt.text.split()[0]) > 0 else "second") for p in pairs
    ]
    questions = questions_of(Biased(), PLAIN, sure, asked(Biased(), sure))
    assert maximum(questions, ("temperature",), PLAIN) is None
    assert chosen(questions, PLAIN) == ()


def test_a_prompt_is_never_on_both_sides() -> None:
    pairs = labelled(60) * 2
    questions = questions_of(Biased(), PLAIN, pairs, asked(Biased(), pairs))
    parts = folds(questions, 10)
    assert sum(part.astype(int) for part in parts).tolist() == [1] * 120
    for part in parts:
        assert not set(questions.fold[part]) & set(questions.fold[~part])


def test_the_measures_are_those_of_the_report() -> None:
    random = np.random.default_rng(0)
    p = np.append(random.random(300), 0.5)
    label = (random.random(301) < p).astype(float)
    sides: list[Any] = ["first" if y else "second" for y in label]
    found = calibration(sides, [Verdict(x) for x in p])
    assert found is not None
    assert fitting.ece(p, label) == pytest.approx(found.ece, abs=1e-12)
    by_hand = np.mean([-math.log(x if y else 1 - x) for x, y in zip(p, label, strict=True)])
    assert fitting.log_loss(p, label) == pytest.approx(by_hand, abs=1e-12)
    assert (
        fitting.agreement(np.array([0.9, 0.2, 0.5, 0.5]), np.array([1, 1, 1, 0.5])) == (1 + 0 + 0.5 + 1) / 4
    )


# As a user runs it

WARM = 'judge: {use: llm, model: "embedded:judge", system: "Prefer the warmer, friendlier answer."}\n'


@pytest.fixture
def flipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels of which a tenth go against what the embedded judge is so sure of."""
    monkeypatch.chdir(tmp_path)
    Path("warm.yaml").write_text(WARM)
    rows = []
    for i in range(60):
        texts = {"first": f"Of course! The answer is {i}.", "second": f"Whatever. The answer is {i}."}
        rows.append({"prompt": f"What is {i}?", **texts, "label": int(i % 10 == 3)})
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["judge", *arguments])


@pytest.mark.usefixtures("flipped")
def test_the_yaml_that_is_printed_can_be_pasted_and_calms_the_judge() -> None:
    done = run("warm.yaml", "pairs.jsonl", "--fit")
    assert done.exit_code == 0, done.stderr
    assert "on labels kept out" in done.stdout
    found = json.loads(run("warm.yaml", "pairs.jsonl", "--fit", "--json").stdout)["judges"][0]["fit"]
    assert list(found["terms"]) == ["temperature"]
    (option,) = [word for word in done.stdout.split() if word.startswith("judge.temperature=")]
    before, after = (
        json.loads(run("warm.yaml", "pairs.jsonl", *more, "--json").stdout)["judges"][0]["calibration"]["ece"]
        for more in ((), ("--set", option))
    )
    assert after < before
    pasted = done.stdout[done.stdout.index("judge:\n") : done.stdout.index("\nor --set")]
    Path("whole.yaml").write_text(pasted + "  use: llm\nmodel: embedded:policy\nprompts: embedded:prompts\n")
    assert load_config("whole.yaml").judge.temperature == found["terms"]["temperature"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("flipped")
def test_what_cannot_be_fitted_is_one_line() -> None:
    done = run("rule", "pairs.jsonl", "--set", "judge.length=longer", "--fit")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.strip() == (
        "error: --fit: RuleJudge has no option position, so nothing can be fitted; "
        "the judge llm has all three."
    )
    done = run("warm.yaml", "pairs.jsonl", "--fit", "--limit", "10")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--fit: takes at least 20 labels" in done.stderr
