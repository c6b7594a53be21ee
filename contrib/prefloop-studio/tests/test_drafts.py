"""A draft: what a form changes in it, what survives that, and what is said to be wrong."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from prefloop import UserError
from prefloop_studio import drafts

DRAFT = """\
# my run
model: embedded:policy   # the small one
prompts: embedded:prompts
judge:
  use: rule
  length: shorter  # brevity

# what a plugin reads
tracker: {name: 'mine', tags: [a, b]}
"""


def test_an_edit_keeps_comments_quotes_and_unknown_keys() -> None:
    edited = drafts.edit(DRAFT, ["training", "learning_rate"], 2e-5)
    assert edited.startswith(DRAFT)
    assert edited.removeprefix(DRAFT) == "training:\n  learning_rate: 2e-05\n"
    assert drafts.edit(edited, ["training", "learning_rate"], None, remove=True) == DRAFT


def test_an_edit_writes_short_forms_out() -> None:
    edited = drafts.edit("model: x\n", ["model", "quantize"], "4bit")
    assert edited == "model:\n  path: x\n  quantize: 4bit\n"
    edited = drafts.edit("judge: rule\n", ["judge", "length"], "longer")
    assert edited == "judge:\n  use: rule\n  length: longer\n"


def test_an_edit_reaches_into_lists() -> None:
    text = "bonuses:\n  - use: kl  # first\n    alpha: 1.0e-4\n"
    assert drafts.edit(text, ["bonuses", "0", "alpha"], [1e-4, 1e-5]).startswith(
        "bonuses:\n  - use: kl  # first\n"
    )
    assert drafts.edit(text, ["bonuses", "0"], None, remove=True) == ""


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "just text", "a: &x [*x]\n", "a: 1\na: 2\n", "\x00"])
def test_an_edit_of_what_is_no_mapping_is_refused_in_a_sentence(text: str) -> None:
    try:
        drafts.edit(text, ["model"], "x")
    except UserError as error:
        assert len(error.problems) == 1 and "\n" not in str(error)


def test_a_draft_is_read_with_every_default() -> None:
    found = drafts.read(DRAFT.replace("tracker", "#tracker"))
    assert found["problems"] == []
    assert found["written"]["judge"] == {"use": "rule", "length": "shorter"}
    assert found["resolved"]["training"]["batch_size"] >= 1
    assert found["resolved"]["judge"]["use"] == "prefloop:rule"


def test_problems_have_their_line_and_key_in_the_words_of_the_command_line() -> None:
    found = drafts.read(
        "model: embedded:policy\nprompts: x\njudge: {use: rule, lenght: shorter}\ntraining: {iters: 0}\n"
    )
    assert found["resolved"] is None
    assert [(p["line"], p["path"]) for p in found["problems"]] == [(3, "judge.lenght"), (4, "training.iters")]
    assert "Did you mean 'length'?" in found["problems"][0]["text"]


def test_broken_yaml_is_a_problem_and_not_a_fault(client: TestClient) -> None:
    for text in (
        "a: [",
        "\ud83d",
        "a: !!python/object:os.system {}",
        "&a [*a, *a]",
        "x" * 100_000,
        "[" * 3000,
    ):
        answer = client.post("/api/drafts/read", content=b'{"text": ' + _escaped(text) + b"}")
        assert answer.status_code == 200, answer.text
        assert answer.json()["problems"], text[:30]


def test_the_form_offers_every_installed_component_with_its_options(client: TestClient) -> None:
    form = client.get("/api/form").json()
    judges = {judge["name"]: judge for judge in form["components"]["judge"]}
    assert {"llm", "human", "rule", "web", "cascade"} <= judges.keys()
    assert judges["web"]["distribution"] == "prefloop-studio"
    options = {option["name"]: option for option in judges["rule"]["options"]}
    assert (
        options["length"]["choices"] == ["shorter", "longer", "none"]
        or "shorter" in options["length"]["choices"]
    )
    assert options["temperature"]["type"] == "number" and options["temperature"]["above"] == 0
    sections = {option["name"]: option for option in form["options"]}
    rank = next(o for o in sections["adapter"]["options"] if o["name"] == "rank")
    assert (rank["type"], rank["default"], rank["least"]) == ("integer", 8, 1)
    assert sections["bonuses"]["type"] == "components" and sections["judge"]["kind"] == "judge"
    xpo = next(a for a in form["components"]["algorithm"] if a["name"] == "xpo")
    assert [option["name"] for option in xpo["options"]] == ["alpha", "estimator"]


def test_data_here_is_offered_with_its_columns_and_nothing_else_is(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mine.jsonl").write_text('{"prompt": "Hi", "answer": "<script>"}\n' * 9)
    found = client.get("/api/sources").json()
    assert "mine.jsonl" in [one["path"] for one in found["data"]]
    assert found["machine"]["memory"] > found["machine"]["free"] > 0
    preview = client.get("/api/preview", params={"path": "mine.jsonl"}).json()
    assert preview["columns"] == ["prompt", "answer"] and len(preview["rows"]) == 5
    for path in ("/etc/passwd", "../runs/first/metrics.jsonl", ""):
        assert client.get("/api/preview", params={"path": path}).status_code == 400


def _escaped(text: str) -> bytes:
    import json

    return json.dumps(text).encode()


MIXED = (
    "model: embedded:policy\njudge: rule\nprompts:\n  - a.jsonl  # checked\n  - {path: b.jsonl, weight: 3}\n"
)


def test_a_draft_may_mix_sources_of_prompts() -> None:
    found = drafts.read(MIXED.replace("judge: rule", "judge: {use: rule, length: shorter}"))
    assert found["problems"] == []
    assert found["written"]["prompts"] == ["a.jsonl", {"path": "b.jsonl", "weight": 3}]
    assert [source["weight"] for source in found["resolved"]["prompts"]] == [1.0, 3.0]
    edited = drafts.edit(MIXED, ["prompts", "1", "weight"], 2)
    assert edited == MIXED.replace("weight: 3", "weight: 2")
    with pytest.raises(UserError, match=r"prompts\.column: nothing can be put there"):
        drafts.edit(MIXED, ["prompts", "column"], "question")
