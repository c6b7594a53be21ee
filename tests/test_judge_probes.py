"""`prefloop judge --probes`: what of style turns a judge's verdicts, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prefloop.cli import main
from prefloop.evaluation.stats import wilson
from prefloop_plugins.judges.function import FunctionJudge
from prefloop_plugins.judges.rule import RuleJudge
from prefloop_plugins.judging.pair_files import LabelledPair
from prefloop_plugins.judging.probes import PROBES, QUESTIONS, probe
from prefloop_plugins.judging.verdicts import judge_pairs
from prefloop_plugins.style import hedges, markdown, repetition, words
from support.judge_models import pair

ROWS = [LabelledPair(pair(f"q{i}", f"yes, {i} it is.", f"no, {i} it is not."), "first") for i in range(40)]


def probed(judge: Any) -> dict[str, int]:
    """How the judge leans, by probe."""
    judged = judge_pairs(judge, [row.pair for row in ROWS])
    found, _ = probe(judge, ROWS, judged)
    return {one.name: one.leaning for one in found.probes}


def test_a_judge_of_content_leans_nowhere() -> None:
    assert set(probed(RuleJudge(prefer=("yes",))).values()) == {0}


def test_a_judge_that_likes_length_and_markdown_is_shown_up() -> None:
    def likes(prompt: str, completion: str) -> float:
        return len(completion) + 1000 * completion.count("**") + 20 * completion.startswith("yes")

    found = probed(FunctionJudge(score=likes))
    assert found["Markdown"] == found["padding"] == 1


def test_a_judge_that_likes_markdown_alone_leans_to_nothing_else() -> None:
    liked = {name for name, leaning in probed(RuleJudge(prefer=("yes", r"\*\*", "^#"))).items() if leaning}
    assert liked == {"Markdown"}


def test_a_judge_that_hates_hedges_turns_away_from_them() -> None:
    found = probed(RuleJudge(prefer=("yes",), avoid=("perhaps", "not certain")))
    assert (found["hedges"], found["confidence"]) == (-1, 0)


def test_the_shares_are_those_counted_by_hand() -> None:
    judge = RuleJudge(prefer=("yes", "excellent", "careful"))
    judged = judge_pairs(judge, [row.pair for row in ROWS])
    found, said = probe(judge, ROWS, judged)
    by_name = {one.name: one for one in found.probes}
    assert by_name["compliment"].towards == wilson(40, 40)  # 0 + 2 against 1
    assert by_name["compliment"].away == wilson(0, 40)
    assert (found.pairs, found.questions, len(said.verdicts)) == (40, 40 * QUESTIONS, 40 * QUESTIONS)


def test_a_judge_that_tosses_coins_leans_nowhere() -> None:
    def coin(prompt: str, first: str, second: str) -> float:
        low, high = sorted((first, second))
        return 0.9 if (hash_of(prompt + low + high) == (first == low)) else 0.1

    def hash_of(text: str) -> bool:
        from hashlib import sha256

        return bool(sha256(text.encode()).digest()[0] & 1)

    assert set(probed(FunctionJudge(call=coin)).values()) == {0}


def test_every_probe_leaves_the_words_of_an_answer_in_it() -> None:
    for name, decorate in PROBES.items():
        for text in ("One thing. Another thing.", "just this", ""):
            decorated = decorate(text)
            assert decorated != text, name
            assert set(text.split()) <= set(decorated.replace("*", "").split()), name


def test_the_measures_of_style() -> None:
    assert words("one two  three\n") == 3
    assert markdown("## A\n\n- one\n- **two**\n1. x\n`code` and 2 * 3") == 6
    assert markdown("plain - with a dash, 3*4 and a#b") == 0
    assert hedges("Perhaps it might be. I think so; mighty maybes.") == 3
    assert repetition("a b c a b c a b c") == pytest.approx(1 - 3 / 7)
    assert repetition("a b") == 0


def test_the_table_and_the_json_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": r.pair.prompt.text, "first": r.pair.first.text, "second": r.pair.second.text} for r in ROWS
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("yes.yaml").write_text("judge: {use: rule, prefer: ['^yes', '[*][*]', '##']}\n")
    done = CliRunner().invoke(main, ["judge", "yes.yaml", "pairs.jsonl", "--probes"])
    assert done.exit_code == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("Markdown ")]
    assert row.split("  ")[0] == "Markdown"
    assert "100.0% (91-100) of 40   0.0% (0-9) of 40" in row
    assert "The probes asked about 400 more pairs." in done.stdout
    assert "yes.yaml: it likes Markdown" in done.stdout
    found = json.loads(
        CliRunner().invoke(main, ["judge", "yes.yaml", "pairs.jsonl", "--probes", "--json"]).stdout
    )
    (judge,) = found["judges"]
    assert [one["name"] for one in judge["probes"]["probes"]] == list(PROBES)
    assert judge["probes"]["probes"][0]["towards"]["rate"] == 1.0
    assert judge["probes"]["questions"] == 400


def test_a_person_is_not_asked_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text('{"prompt": "?", "first": "a", "second": "b"}\n')
    Path("human.yaml").write_text("judge: human\n")
    done = CliRunner().invoke(main, ["judge", "human.yaml", "pairs.jsonl", "--probes"])
    assert done.exit_code == 2
    assert "too many for a person" in done.stderr or "terminal" in done.stderr
