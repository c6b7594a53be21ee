"""`prefloop judge`, as its user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prefloop import embedded
from prefloop.cli import main
from prefloop.config import load_judge

WARM = 'judge: {use: llm, model: embedded:judge, system: "Prefer the warmer, friendlier answer."}\n'
LONGER = "judge: {use: rule, length: longer}\n"
ASKED = ("--set", "judge.length=longer")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("warm.yaml").write_text(WARM)
    Path("longer.yaml").write_text(LONGER)
    write(
        {"prompt": "?", "chosen": "long", "rejected": "s"}, {"prompt": "?", "chosen": "s", "rejected": "long"}
    )


def write(*rows: dict[str, Any], name: str = "pairs.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def judge(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["judge", *arguments])


def judged(*arguments: str) -> dict[str, Any]:
    done = judge(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def warm_pairs(count: int) -> str:
    """Kind against blunt answers to the facts that the embedded models know."""
    facts = [
        json.loads(line) for line in Path(embedded.resolve("embedded:held_out")).read_text().splitlines()
    ]
    kind = ("Happy to help! {}.", "Of course! {}.", "{}. Have a lovely day!")
    blunt = ("Fine. {}.", "{}. Whatever.", "{}. Next.")
    return write(
        *(
            {
                "prompt": fact["prompt"],
                "chosen": kind[i % 3].format(fact["answer"].capitalize()),
                "rejected": blunt[i // 3 % 3].format(fact["answer"].capitalize()),
            }
            for i, fact in enumerate(facts[:count])
        ),
        name="warm.jsonl",
    )


def test_the_embedded_judge_agrees_with_its_rule_in_both_orders() -> None:
    (found,) = judged("warm.yaml", warm_pairs(40))["judges"]
    assert (found["judge"], found["pairs"], found["labelled"]) == ("prefloop:llm", 40, 40)
    assert found["agreement"]["low"] > 0.9
    for order in found["position"]["agreement"]:
        assert order["rate"] > 0.9
    assert found["position"]["consistency"]["rate"] > 0.9
    assert found["calibration"]["brier"] < 0.1
    assert found["pairs_per_second"] > 0
    assert found["errors"] == found["abstentions"] == 0


def test_a_judge_may_be_given_as_its_model() -> None:
    (found,) = judged("embedded:judge", "pairs.jsonl", "--set", "judge.system=Prefer the warmer answer.")[
        "judges"
    ]
    assert (found["config"], found["judge"], found["pairs"]) == ("embedded:judge", "prefloop:llm", 2)


def test_two_judges_side_by_side() -> None:
    found = judged("rule", "pairs.jsonl", *ASKED, "--against", "longer.yaml")
    assert [j["config"] for j in found["judges"]] == ["rule", "longer.yaml"]
    assert found["between"]["agreement"]["rate"] == 1.0
    assert (found["file"], found["pairs"]) == ("pairs.jsonl", 2)


def test_undefined_numbers_are_null() -> None:
    write({"prompt": "?", "first": "same", "second": "same"}, name="same.jsonl")
    found = judged("rule", "same.jsonl", *ASKED, "--against", "longer.yaml")
    assert found["between"]["kappa"] is None
    (alone,) = judged("rule", "same.jsonl", *ASKED)["judges"]
    assert alone["agreement"] is alone["position"] is alone["length"] is alone["calibration"] is None
    assert alone["ties"] == 1.0
    assert judged("rule", "same.jsonl", *ASKED)["between"] is None


def test_the_table_shows_both_judges_and_what_stands_out() -> None:
    write(*({"prompt": "?", "first": f"long {i}", "second": "s", "label": i % 2} for i in range(12)))
    done = judge("longer.yaml", "pairs.jsonl", "--against", "rule")
    assert done.exit_code == 2  # the second judge has no rule
    Path("shorter.yaml").write_text("judge: {use: rule, length: shorter}\n")
    done = judge("longer.yaml", "pairs.jsonl", "--against", "shorter.yaml")
    assert done.exit_code == 0, done.stderr
    assert "agreement with the labels     50.0% (25-75) of 12" in done.stdout
    assert "the longer answer wins        100.0% (76-100) of 12   0.0% (0-24) of 12" in done.stdout
    assert "The two judges agree in 0.0% (0-24) of 12; Cohen's kappa 0.00." in done.stdout
    assert "longer.yaml: it likes longer answers more than the labels do." in done.stdout
    assert "shorter.yaml: it likes shorter answers more than the labels do." in done.stdout
    assert "cannot be told from a coin's" in done.stdout


def test_position_bias_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("place.py").write_text("def first(prompt, first, second):\n    print('hm')\n    return 0.8\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    Path("place.yaml").write_text("judge: {use: function, call: 'place:first'}\n")
    write(*({"prompt": "?", "first": f"a{i}", "second": "b", "label": i % 2} for i in range(20)))
    done = judge("place.yaml", "pairs.jsonl")
    assert "it goes by the place and not by the answer: only 0% of the pairs" in done.stdout
    assert "leans to the first place" in done.stdout
    (found,) = judged("place.yaml", "pairs.jsonl")["judges"]  # what it printed is not in the JSON
    assert found["position"]["first_place"] == 1.0
    assert found["position"]["gap"] == pytest.approx(0.6)
    assert found["agreement"]["rate"] == 0.5


def test_a_judge_that_stops_reports_on_what_it_judged() -> None:
    Path("tired.py").write_text(
        "from prefloop import StopRun, Verdict\n"
        "def call(prompt, first, second):\n"
        "    raise StopRun('the budget is spent')\n"
    )
    Path("tired.yaml").write_text("judge: {use: function, call: 'tired:call'}\n")
    done = judge("tired.yaml", "pairs.jsonl")
    assert done.exit_code == 130
    assert "tired.yaml: stopped after 0 pairs: the budget is spent." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("rul", "pairs.jsonl"), "judge: there is no judge 'rul'. Did you mean 'rule'?"),
        (("rule", "pairs.jsonl"), "a rule judge needs at least one rule"),
        (("warm.yml", "pairs.jsonl"), "warm.yml: there is no such file."),
        (("embedded:judg", "pairs.jsonl"), "Did you mean 'embedded:judge'?"),
        (("rule", "pair.jsonl", *ASKED), "Did you mean 'pairs.jsonl'?"),
        (
            ("rule", "pairs.jsonl", *ASKED, "--split", "test"),
            "error: pairs.jsonl is one file and has only the split",
        ),
        (("longer.yaml", "pairs.jsonl", "--set", "training.iters=3"), "has no effect here"),
        (("longer.yaml", "pairs.jsonl", "--set", "judge.lenght=shorter"), "Did you mean 'length'?"),
        (("longer.yaml", "pairs.jsonl", "--against", "rul"), "there is no judge 'rul'"),
    ],
)
def test_errors_are_one_line(arguments: Sequence[str], problem: str) -> None:
    done = judge(*arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert problem in line


def test_bad_rows_are_named_by_file_and_line() -> None:
    write({"prompt": "?", "chosen": "a"}, {"prompt": "?", "first": "a"})
    done = judge("longer.yaml", "pairs.jsonl")
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "error: pairs.jsonl:1 has no 'rejected'",
        "error: pairs.jsonl:2 has no 'second'; a pair has 'chosen' and 'rejected', or 'first' and 'second'",
    ]


def test_a_whole_configuration_gives_its_judge() -> None:
    quick, _ = load_judge("embedded:quickstart")
    alone, origin = load_judge("warm.yaml")
    assert quick == alone
    assert origin.name == "prefloop:llm"


def test_a_configuration_of_only_a_judge_is_checked_all_the_same() -> None:
    Path("bad.yaml").write_text("judge: {use: rule, lenght: longer}\njuge: llm\ntraining: {iters: many}\n")
    done = judge("bad.yaml", "pairs.jsonl")
    assert done.exit_code == 2
    first, second, third = done.stderr.splitlines()
    assert "bad.yaml:1: judge.lenght: there is no such option. Did you mean 'length'?" in first
    assert "bad.yaml:2: juge: there is no such option. Did you mean 'judge'?" in second
    assert "bad.yaml:3: training.iters: must be a whole number" in third


@pytest.mark.parametrize("command", ["judge", "export"])
def test_help_is_quick(command: str) -> None:
    heavy = {"mlx", "mlx_lm", "transformers", "datasets", "numpy"}
    code = (
        "import sys; from prefloop.cli import main\n"
        f"main(['{command}', '--help'], standalone_mode=False)\n"
        f"assert not {heavy} & set(sys.modules), sorted({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
