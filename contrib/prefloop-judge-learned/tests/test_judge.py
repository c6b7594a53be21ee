"""The `learned` judge: what it learns, when it speaks, what it remembers, and what it says of mistakes."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from attrs import evolve, fields
from people import coin, likes_warmth, pairs, write_pairs

from prefloop import Completion, Pair, UserError, Verdict, component, load_config, load_model
from prefloop.model.split import SplitModel
from prefloop_judge_learned.features import SURFACE, open_reader, surface
from prefloop_judge_learned.judge import FIRST_FIT, LearnedJudge
from prefloop_testing import JudgeSuite, PluginSuite

POLICY = "embedded:policy"


def taught(count: int, verdict: Any = likes_warmth, *, step: int = 8, **options: Any) -> LearnedJudge:
    """A judge that has learnt from so many labels, as many in a step."""
    judge = LearnedJudge(model=POLICY, **options)
    given = pairs(count)
    for start in range(0, count, step):
        part = given[start : start + step]
        judge.learn(part, [verdict(pair) for pair in part])
    return judge


class TestPackage(PluginSuite):
    distribution = "prefloop-judge-learned"


class TestUntaught(JudgeSuite):
    component = LearnedJudge(model=POLICY)


class TestTaught(JudgeSuite):
    component = taught(60)
    pairs = pairs(12, seed=1)


class TestHiddenStatesAlone(JudgeSuite):
    component = taught(60, surface=False)
    pairs = pairs(12, seed=1)


@pytest.mark.parametrize("surface", [True, False])
def test_a_taught_judge_knows_the_taste(surface: bool) -> None:
    fresh = pairs(100, seed=1)
    verdicts = taught(60, surface=surface).judge(fresh)
    said = [(v, likes_warmth(p)) for v, p in zip(verdicts, fresh, strict=True) if v.status == "ok"]
    assert len(said) > 60
    assert sum(v.prefers_first == truth.prefers_first for v, truth in said) > 0.95 * len(said)
    assert np.mean([max(v.probability, 1 - v.probability) for v, _ in said]) > 0.8


def test_it_abstains_before_it_knows_anything_and_says_why() -> None:
    fresh = pairs(3, seed=1)

    def reasons(judge: LearnedJudge) -> set[str]:
        verdicts = judge.judge(fresh)
        assert {v.status for v in verdicts} == {"abstained"}
        return {str(v.reason) for v in verdicts}

    for count in (0, 8):
        first = f"foretells those after the first {FIRST_FIT}"
        assert reasons(taught(count)) == {f"it has {count} labels, and {first}"}
    assert {v.probability for v in taught(8).judge(fresh)} == {0.5}
    (said,) = reasons(taught(40, lambda pair: coin(pair, 1)))
    assert said.startswith("it has foretold ") and said.endswith("not better than chance")


@pytest.mark.slow
def test_a_person_who_tosses_a_coin_seldom_makes_it_speak() -> None:
    """With the interval at 95 %, in at most 1 of 20 streams of 120 labels, looked at after each 10."""
    reader = open_reader(POLICY, quantize="none", max_length=512)
    spoke = 0
    for seed in range(60):
        judge = LearnedJudge(model=POLICY, heads=8)
        judge._reader = reader
        given = pairs(120)
        trusted = False
        for start in range(0, 120, 10):
            part = given[start : start + 10]
            judge.learn(part, [coin(pair, seed) for pair in part])
            trusted |= judge.judge(pairs(1, seed=9))[0].reason is None or judge.foretold.interval()[0] > 0.5
        spoke += trusted
    assert spoke <= 6  # binomial(60, 1/20) is above that in 2 of 100 such tests


def test_it_abstains_where_the_heads_disagree() -> None:
    judge, fresh = taught(60, heads=10), pairs(5, seed=1)
    assert {v.status for v in judge.judge(fresh)} == {"ok"}
    found = judge._ensemble
    for turned, said in ((1, None), (2, "80% of its heads agree"), (4, "60% of its heads agree")):
        directions = found.directions * np.array([[-1e-3]] * turned + [[1.0]] * (10 - turned))
        judge._ensemble = evolve(found, directions=directions)
        assert {v.reason for v in judge.judge(fresh)} == {said}


def test_equal_answers_are_a_tie_and_too_long_ones_an_error() -> None:
    judge = taught(60, max_length=80)
    same, long = pairs(2, seed=1)
    same = Pair(same.prompt, same.first, same.first)
    long = Pair(long.prompt, Completion((), "word " * 90), long.second)
    tie, error = judge.judge([same, long])
    assert tie.status == "tie"
    assert error.status == "error" and "more than 80" in str(error.reason)
    before = dict(judge.state())
    judge.learn([long], [Verdict(1.0, by="person")])  # what cannot be read cannot be learnt from
    assert {name: array.tolist() for name, array in judge.state().items()} == {
        name: array.tolist() for name, array in before.items()
    }


def test_hidden_states_that_are_not_finite_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = taught(60)
    monkeypatch.setattr(
        judge._reader.split, "backbone", lambda tokens: mx.full((*tokens.shape, 64), math.nan)
    )
    (verdict,) = judge.judge(pairs(1, seed=4))
    assert (verdict.status, verdict.reason) == ("error", "its hidden states of an answer are not finite")


def test_a_logit_beyond_all_bounds_is_a_certain_label() -> None:
    judge = taught(60)
    judge._ensemble = evolve(judge._ensemble, slope=1e6)
    pair = pairs(1, seed=4)[0]
    assert sorted(v.probability for v in judge.judge([pair, pair.swapped()])) == [0.0, 1.0]


def test_abstentions_and_errors_are_no_labels_and_ties_are() -> None:
    judge = LearnedJudge(model=POLICY)
    said = [Verdict.abstain(), Verdict.error("why"), Verdict.tie(), Verdict(0.9)]
    judge.learn(pairs(4), [evolve(verdict, by="person") for verdict in said])
    assert judge.state()["targets"].tolist() == pytest.approx([0.5, 0.9])


def test_it_learns_nothing_from_what_no_person_said() -> None:
    """Nor from itself, where it is the only judge of a run."""
    judge = LearnedJudge(model=POLICY)
    judge.learn(pairs(2), [Verdict(1.0), Verdict(0.9, by="members.1")])
    assert judge.state() == {}


def test_every_label_is_foretold_by_what_was_learnt_before_it() -> None:
    """The first ten are not; the logit of each later one is what `judge` would have said of it."""
    given = pairs(24)
    judge = LearnedJudge(model=POLICY)
    judge.learn(given[:16], [likes_warmth(p) for p in given[:16]])
    assert judge.foretold.labels == 6  # ten are learnt from first, then the others are foretold
    expected = []
    for pair in given[16:]:
        logit, _ = judge._ensemble(judge._difference(pair))
        expected.append(logit if likes_warmth(pair).prefers_first else -logit)
    judge.learn(given[16:], [likes_warmth(p) for p in given[16:]])
    np.testing.assert_allclose(judge.foretold.logits[6:], expected, rtol=1e-6)


def test_hidden_states_are_those_of_the_model_after_the_prompt() -> None:
    """Against the whole text as the chat template writes it, through the model's own backbone."""
    loaded = load_model(POLICY)
    prompt = pairs(1)[0].prompt
    read = open_reader(POLICY, quantize="none", max_length=512)(prompt, "A cow says moo.")
    asked = loaded.tokenizer.apply_chat_template(
        [dict(m) for m in prompt.messages], add_generation_prompt=True
    )
    answer = [
        *loaded.tokenizer.encode("A cow says moo.", add_special_tokens=False),
        loaded.tokenizer.eos_token_id,
    ]
    hidden = SplitModel(loaded.model).backbone(mx.array([[*asked, *answer]]))
    expected = hidden[0, len(asked) :].mean(axis=0)
    np.testing.assert_allclose(read, np.array(expected), atol=1e-5)


def test_features_are_the_same_bits_in_any_company() -> None:
    given = pairs(6)
    together = LearnedJudge(model=POLICY)
    together.judge(given)
    for pair in reversed(given):
        alone = LearnedJudge(model=POLICY)._difference(pair)
        np.testing.assert_array_equal(together._difference(pair), alone)


def test_weights_are_shared_with_who_loads_the_same_model() -> None:
    judge = LearnedJudge(model=POLICY)
    judge.prepare()
    assert load_model(POLICY).pristine is judge._reader.loaded.pristine


def test_the_surface_of_an_answer_by_hand() -> None:
    counted = np.expm1(surface("# Is it 42?\n\n- Yes, **it** is!"))
    #                   characters, Markdown, words, breaks, ?, !, digits, commas, capitals
    assert counted.round().tolist() == [30, 4, 8, 2, 1, 1, 2, 1, 2]
    assert len(surface("")) == SURFACE and not surface("").any()


def test_what_surface_switches_off_is_not_seen() -> None:
    """Answers that are equal to the model but for their Markdown marks cannot be told apart by length."""
    judge = LearnedJudge(model=POLICY, surface=False)
    pair = pairs(1)[0]
    hidden = judge._reader or judge._open()
    expected = hidden(pair.prompt, pair.first.text) - hidden(pair.prompt, pair.second.text)
    np.testing.assert_array_equal(judge._difference(pair), expected)


def test_state_goes_on_bit_for_bit() -> None:
    given, fresh = pairs(50), pairs(20, seed=1)
    verdicts = [likes_warmth(p) for p in given]
    whole = LearnedJudge(model=POLICY)
    whole.learn(given[:30], verdicts[:30])
    saved = whole.state()
    restored = LearnedJudge(model=POLICY)
    restored.restore({name: mx.array(array) for name, array in saved.items()})
    assert restored.judge(fresh) == whole.judge(fresh)
    for judge in (whole, restored):
        judge.learn(given[30:], verdicts[30:])
    assert restored.judge(fresh) == whole.judge(fresh)
    assert {n: a.tolist() for n, a in restored.state().items()} == {
        n: a.tolist() for n, a in whole.state().items()
    }


def test_it_says_once_when_it_begins_to_speak(capsys: pytest.CaptureFixture[str]) -> None:
    judge = taught(60)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"learned  the judge gives labels from now on: it has foretold (\d+) of \1 labels "
        r"\(5\d% to 100%\) and was \d\d% sure",
        line,
    )
    TestTaught.component.restore(judge.state())
    assert capsys.readouterr().out == ""


def test_a_judge_without_labels_has_no_state() -> None:
    assert LearnedJudge(model=POLICY).state() == {}


def test_a_state_of_other_features_is_refused() -> None:
    with pytest.raises(UserError, match=r"its state has 64 features of an answer, and with these options"):
        taught(0).restore(taught(12, surface=False).state())


def test_it_begins_with_labels_from_files(tmp_path: Path) -> None:
    one = write_pairs(tmp_path / "one.jsonl", pairs(20))
    two = write_pairs(tmp_path / "two.jsonl", pairs(30, seed=2))
    judge = load_config(
        {
            "model": POLICY,
            "prompts": "embedded:prompts",
            "judge": {"use": "learned", "model": POLICY, "labels": [str(one), str(two)]},
        }
    ).judge
    judge.prepare()
    assert len(judge.state()["targets"]) == 50 and judge.foretold.labels == 40
    assert judge.judge(pairs(1, seed=3))[0].status == "ok"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"labels\.0: .*nowhere\.jsonl"),
        ("", r"labels\.0: .*labels\.jsonl"),
        ('{"prompt": "a", "first": "b", "second": "c"}\n', r"labels\.0: .* holds no label to learn from"),
        ('{"prompt": "a", "first": "b"}\n', r"labels\.0: .*labels\.jsonl:1 .*second"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / ("nowhere.jsonl" if content is None else "labels.jsonl")
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        LearnedJudge(model=POLICY, labels=(str(path),)).prepare()
    assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model"),
        ({"heads": 1}, "heads"),
        ({"consensus": 0.5}, "consensus"),
        ({"consensus": 1.5}, "consensus"),
        ({"labels": "run"}, "'labels' must be a list of paths"),
        ({"labels": [""]}, "'labels' must be a list of paths"),
        ({"quantize": "5bit"}, "quantize"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LearnedJudge(**({"model": POLICY} | options))


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        LearnedJudge(model="./nowhere").prepare()


def test_is_found_by_name() -> None:
    assert component("judge", "learned") is LearnedJudge


def test_the_plugin_module_imports_no_mlx() -> None:
    code = (
        "import sys, prefloop_judge_learned as p; p.prefloop_judges(); import prefloop_judge_learned.judge;"
        "sys.exit(bool({'mlx', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
def test_examples_in_the_readme_load(tmp_path: Path, block: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"model: embedded:policy\nprompts: embedded:prompts\n{block}")
    assert isinstance(load_config(file).judge.members[0], LearnedJudge)


def test_the_readme_lists_the_options() -> None:
    options = {f.name: (f.default, f.metadata["help"]) for f in fields(LearnedJudge) if f.init}
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| `(.*?)` \| (.+) \|$", README, re.MULTILINE)
    shown = {(): "[]", True: "true"}
    assert {name: (default, text) for name, default, text in rows} == {
        name: (shown.get(default, str(default)), text) for name, (default, text) in options.items()
    }
