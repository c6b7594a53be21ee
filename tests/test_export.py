"""`prefloop export pairs`: a run's ledger as a preference data set that other tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from prefloop import Completion, Pair, Prompt, Verdict
from prefloop.cli import main
from prefloop.runs.ledger import Ledger
from prefloop.runs.records import JudgeIdentity
from prefloop_plugins.judging.pair_files import read_pairs

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What does a cow say?"}
JUDGE = JudgeIdentity("prefloop:rule", "0.1.0", "abc")


def pair(first: str, second: str, *messages: dict[str, str]) -> Pair:
    prompt = Prompt((1,), "What does a cow say?", messages or (USER,), "prompts.jsonl:1")
    return Pair(prompt, Completion((2, 3), first), Completion((4,), second, source="reference"))


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which each kind of verdict was given, written as a run writes its own."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/one")
    folder.mkdir(parents=True)
    ledger = Ledger(folder / "judgements.jsonl")
    ledger.append(JUDGE, [(pair("Moo.", "Start's answer."), Verdict(0.9))], step=0, evaluation=True)
    ledger.append(
        JUDGE,
        [
            (pair("Moo.", "Woof."), Verdict(0.9)),
            (pair("Fine.", "“Muh”, says a cow."), Verdict(0.25)),
            (pair("a", "b"), Verdict.tie()),
            (pair("c", "d"), Verdict.abstain()),
            (pair("e", "f"), Verdict.error("unreadable")),
            (pair("g", "h"), Verdict(0.8)),
        ],
        step=1,
    )
    ledger.append(JUDGE, [(pair("g", "h"), Verdict(0.3))], step=2)
    return folder


def export(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", "pairs", *arguments])


def rows(*arguments: str) -> list[dict[str, Any]]:
    done = export(*arguments)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_chat_rows_hold_labelled_training_pairs_as_last_judged() -> None:
    assert rows("runs/one") == [
        {"prompt": [USER], "chosen": answer("Moo."), "rejected": answer("Woof.")},
        {"prompt": [USER], "chosen": answer("“Muh”, says a cow."), "rejected": answer("Fine.")},
        {"prompt": [USER], "chosen": answer("h"), "rejected": answer("g")},
    ]


def test_pairs_that_are_left_out_are_counted() -> None:
    done = export("runs/one")
    assert done.stderr == (
        "Wrote 3 pairs. Left out: 1 judged again later, 1 of evaluations, 1 ties, 1 abstentions, 1 errors.\n"
    )


def test_the_text_format_has_plain_prompt_chosen_and_rejected() -> None:
    first, *_ = rows("runs/one", "--format", "text")
    assert first == {"prompt": "What does a cow say?", "chosen": "Moo.", "rejected": "Woof."}


def test_text_rows_keep_the_system_message_apart_and_say_when_turns_are_lost(run: Path) -> None:
    said = {"role": "assistant", "content": "Moo."}
    ledger = Ledger(run / "judgements.jsonl")
    ledger.append(JUDGE, [(pair("x", "y", SYSTEM, USER, said, USER), Verdict(0.9))], step=3)
    done = export("runs/one", "--format", "text")
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["system"] == "Be brief."
    assert last["prompt"].startswith("User: What does a cow say?\n\nAssistant: Moo.\n\nUser: ")
    assert "1 prompts of several turns became one text; --format chat keeps the turns." in done.stderr
    assert rows("runs/one")[-1]["prompt"] == [SYSTEM, USER, said, USER]


def test_details_and_ties_are_exported_on_request() -> None:
    found = rows("runs/one", "--details", "--include-ties")
    assert [row["chosen"][0]["content"] for row in found] == ["Moo.", "“Muh”, says a cow.", "a", "h"]
    assert [row["probability"] for row in found] == pytest.approx([0.9, 0.75, 0.5, 0.7])
    assert [row["step"] for row in found] == [1, 1, 1, 2]
    assert {row["judge"] for row in found} == {"prefloop:rule"}


def test_ties_without_details_are_refused() -> None:
    done = export("runs/one", "--include-ties")
    assert done.exit_code == 2
    assert "give --details as well" in done.stderr


def test_an_existing_file_is_not_overwritten() -> None:
    assert export("runs/one", "--output", "pairs.jsonl").exit_code == 0
    before = Path("pairs.jsonl").read_bytes()
    assert before.decode() == export("runs/one").stdout
    done = export("runs/one", "--output", "pairs.jsonl")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: pairs.jsonl: exists already. Give another --output, or remove it.\n",
    )
    assert Path("pairs.jsonl").read_bytes() == before


@pytest.mark.parametrize("format", ["chat", "text"])
def test_the_datasets_library_reads_the_columns(format: str, tmp_path: Path) -> None:
    import datasets

    assert export("runs/one", "--format", format, "--details", "--output", "pairs.jsonl").exit_code == 0
    found = datasets.Dataset.from_json("pairs.jsonl", cache_dir=str(tmp_path / "cache"))
    assert found.column_names == ["prompt", "chosen", "rejected", "probability", "step", "judge"]
    expected = answer("Moo.") if format == "chat" else "Moo."
    assert found[0]["chosen"] == expected
    assert len(found) == 3


@pytest.mark.parametrize("format", ["chat", "text"])
def test_exported_pairs_can_be_judged(format: str) -> None:
    exported = export("runs/one", "--format", format, "--details", "--include-ties", "--output", "out.jsonl")
    assert exported.exit_code == 0
    found = read_pairs("out.jsonl")
    better = {(p.pair.first if p.label == "first" else p.pair.second).text for p in found if p.label != "tie"}
    assert better == {"Moo.", "“Muh”, says a cow.", "h"}
    assert [p.label for p in found].count("tie") == 1
    done = CliRunner().invoke(
        main,
        [
            "judge",
            "rule",
            "out.jsonl",
            "--set",
            "judge.prefer=[Moo]",
            "--set",
            "judge.length=longer",
            "--json",
        ],
    )
    assert done.exit_code == 0, done.stderr
    (report,) = json.loads(done.stdout)["judges"]
    assert (report["pairs"], report["labelled"]) == (4, 4)


def test_the_ledger_file_may_be_given_and_is_not_changed(run: Path) -> None:
    ledger = run / "judgements.jsonl"
    with ledger.open("a") as file:
        file.write('{"step": 4, "prom')  # a run that is still writing
    before = ledger.read_bytes()
    assert len(rows(str(ledger))) == 3
    assert ledger.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("runs/on", "runs/on: there is no such run. Did you mean 'one'?"),
        ("runs", "runs: holds no judgements.jsonl"),
    ],
)
def test_a_path_without_a_run_is_named(path: str, problem: str) -> None:
    done = export(path)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {problem}")


def test_a_damaged_line_is_named(run: Path) -> None:
    ledger = run / "judgements.jsonl"
    ledger.write_text('{"step": 1}\n{broken\n' + ledger.read_text())
    done = export("runs/one")
    assert done.exit_code == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(f"error: {ledger}:1 is not a judgement")
    assert second.startswith(f"error: {ledger}:2 is broken JSON")
