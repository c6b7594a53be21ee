"""Pairs to judge: the formats that are read, where chosen is shown, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefloop import UserError
from prefloop_plugins.judging.pair_files import read_pairs

COW = "What does a cow say?"
USER = {"role": "user", "content": COW}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(*rows: Any, name: str = "pairs.jsonl") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return name


def judgement(**more: Any) -> dict[str, Any]:
    line = {
        "step": 1,
        "judge": "prefloop:rule",
        "prompt_id": "p:1",
        "prompt": [USER],
        "first": {"text": "Moo.", "tokens": [5, 6], "stopped": False, "source": "reference"},
        "second": {"text": "Woof.", "tokens": [7], "stopped": True, "source": "policy"},
        "probability": 0.9,
        "status": "ok",
        "orders": None,
        "reason": None,
    }
    return line | more


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": COW, "chosen": "Moo.", "rejected": "Woof."},
        {"prompt": [USER], "chosen": [said("Moo.")], "rejected": [said("Woof.")]},
        {"prompt": COW, "chosen": [USER, said("Moo.")], "rejected": [USER, said("Woof.")]},
        {"chosen": [USER, said("Moo.")], "rejected": [USER, said("Woof.")]},
        {"prompt": COW, "first": "Moo.", "second": "Woof.", "label": "first"},
        {"prompt": COW, "first": [said("Woof.")], "second": "Moo.", "label": 1},
        judgement(),
        judgement(prompt=COW, first={"text": "Woof."}, second={"text": "Moo."}, probability=0.1),
    ],
)
def test_every_format_gives_the_same_pairs(row: dict[str, Any]) -> None:
    (found,) = read_pairs(write(row))
    assert found.label in ("first", "second")
    better, worse = found.pair.first.text, found.pair.second.text
    if found.label == "second":
        better, worse = worse, better
    assert (found.pair.prompt.text, better, worse) == (COW, "Moo.", "Woof.")
    assert found.pair.prompt.messages == (USER,)
    assert found.pair.prompt.id == "pairs.jsonl:1"


@pytest.mark.parametrize(
    ("label", "expected"), [("tie", "tie"), (0, "first"), (1, "second"), (None, None), ("second", "second")]
)
def test_labels_of_plain_pairs_are_read(label: object, expected: str | None) -> None:
    (found,) = read_pairs(write({"prompt": COW, "first": "a", "second": "b", "label": label}))
    assert found.label == expected


def test_other_columns_become_fields_of_the_prompt() -> None:
    (found,) = read_pairs(write({"prompt": COW, "first": "a", "second": "", "answer": "moo"}))
    assert found.label is None
    assert found.pair.prompt.fields == {"answer": "moo"}


def test_the_order_of_chosen_and_rejected_is_random_and_independent_of_the_label() -> None:
    texts = [(f"better {i}", f"worse {i}") for i in range(400)]
    straight = read_pairs(write(*({"prompt": COW, "chosen": a, "rejected": b} for a, b in texts)))
    turned = read_pairs(write(*({"prompt": COW, "chosen": b, "rejected": a} for a, b in texts)))
    again = read_pairs(write(*({"prompt": COW, "chosen": a, "rejected": b} for a, b in texts)), seed=1)
    firsts = sum(found.label == "first" for found in straight)
    assert 160 < firsts < 240  # four standard deviations
    assert [f.pair.first for f in straight] == [f.pair.first for f in turned]
    assert all(a.label != b.label for a, b in zip(straight, turned, strict=True))
    assert [f.label for f in again] != [f.label for f in straight]


def test_a_ledger_keeps_tokens_and_has_its_own_verdicts_as_labels() -> None:
    other = {"text": "Hm."}
    rows = read_pairs(
        write(
            judgement(),
            judgement(second=other, status="tie", probability=0.5),
            judgement(first=other, status="error", probability=0.5),
            judgement(first=other, second=other, status="abstained", probability=0.5),
        )
    )
    assert [row.label for row in rows] == ["first", "tie", None, None]
    first = rows[0].pair.first
    assert (first.tokens, first.stopped, first.source) == ((5, 6), False, "reference")


def test_of_two_verdicts_of_one_judge_the_last_counts() -> None:
    rows = read_pairs(write(judgement(), judgement(judge="other:judge"), judgement(probability=0.2)))
    assert [row.label for row in rows] == ["first", "second"]
    assert rows[1].pair.prompt.id == "pairs.jsonl:3"


def test_of_a_run_in_which_a_person_was_asked_their_labels_count() -> None:
    others = [{"text": text} for text in ("Hm.", "Well.")]
    rows = (
        judgement(by="members.0"),
        judgement(first=others[0], by="person"),
        judgement(first=others[1], by="person", status="abstained", probability=0.5),
    )
    assert [row.label for row in read_pairs(write(*rows[:1], name="a/judgements.jsonl"))] == ["first"]
    assert [row.label for row in read_pairs(write(*rows, name="b/judgements.jsonl"))] == [None, "first", None]


def test_a_run_is_read_while_its_last_line_is_still_being_written() -> None:
    ledger = Path(write(judgement(), name="runs/one/judgements.jsonl"))
    ledger.write_text(ledger.read_text() + '{"prompt": [{"role": "us')
    before = ledger.read_bytes()
    assert len(read_pairs("runs/one")) == len(read_pairs(str(ledger))) == 1
    assert ledger.read_bytes() == before


def test_the_limit_of_rows_is_kept() -> None:
    rows = [{"prompt": COW, "chosen": f"a{i}", "rejected": "b"} for i in range(5)]
    assert len(read_pairs(write(*rows), limit=2)) == 2


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": COW}, "has no 'first'; a pair has 'chosen' and 'rejected', or 'first' and 'second'"),
        ({"prompt": COW, "chosen": "a"}, "has no 'rejected'"),
        ({"chosen": "a", "rejected": "b"}, "has no 'prompt'"),
        ({"prompt": "  ", "chosen": "a", "rejected": "b"}, "has an empty text as its 'prompt'"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "has a number as its 'prompt'"),
        ({"prompt": COW, "chosen": None, "rejected": "b"}, "has null as its 'chosen', not text or a list"),
        (
            {"prompt": COW, "chosen": [USER], "rejected": "b"},
            "message from 'user' at the end of its 'chosen'",
        ),
        (
            {"prompt": "Hi", "chosen": [USER, said("a")], "rejected": "b"},
            "has a 'chosen' that does not go on from its prompt",
        ),
        (
            {"chosen": [USER, said("a")], "rejected": [{**USER, "content": "Hi"}, said("b")]},
            "has a 'rejected' that does not go on from its prompt",
        ),
        ({"prompt": COW, "first": "a", "second": "b", "label": 2}, "has 2 as its 'label', not first, second"),
        ({"prompt": COW, "first": "a", "second": "b", "label": True}, "has True as its 'label'"),
        ({"prompt": COW, "first": "a", "second": "b", "label": [1]}, "has a list as its 'label'"),
        (
            {"prompt": COW, "first": "\ud800", "second": "b"},
            "half a character (a lone surrogate) in its 'first'",
        ),
        (judgement(status="won"), "has the status 'won', which is none of ok, tie, abstained, error"),
        (judgement(probability="high"), "has text as its 'probability', not a number"),
        (judgement(probability=1.5), "is not a judgement: a verdict's probability lies between 0 and 1"),
        (judgement(first={"tokens": []}), "has no object with a 'text' as its 'first'"),
        (judgement(second={"text": "a", "tokens": 3}), "has a number as the 'tokens' of its 'second'"),
        (judgement(second={"text": "\ud800"}), "half a character (a lone surrogate) in its 'second'"),
        ("{broken", "is broken JSON"),
        ("[1]", "is a list, not an object"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row: Any, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        read_pairs(write({"prompt": COW, "first": "a", "second": "b"}, row))
    (said,) = caught.value.problems
    assert said.startswith("pairs.jsonl:2 ")
    assert problem in said


def test_the_first_bad_rows_are_reported_together() -> None:
    with pytest.raises(UserError) as caught:
        read_pairs(write(*[{"prompt": COW}] * 8))
    assert len(caught.value.problems) == 6
    assert caught.value.problems[-1] == "… and 3 more"


def test_a_missing_file_gets_a_suggestion() -> None:
    write({"prompt": COW})
    with pytest.raises(UserError, match=r"no file or folder 'pair\.jsonl'.*Did you mean 'pairs\.jsonl'"):
        read_pairs("pair.jsonl")


def test_an_empty_ledger_is_refused() -> None:
    write(name="runs/one/judgements.jsonl")
    with pytest.raises(UserError, match="the run has judged nothing yet"):
        read_pairs("runs/one")
