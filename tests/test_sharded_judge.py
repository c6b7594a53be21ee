"""A judge whose model is spread over ranks: the verdicts are those of the whole model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefloop import UserError, component
from support.ranks import ended, start
from support.sharded_judging import judge_model, probabilities
from support.small_runs import SETTINGS, lines, settings_for

TESTS = str(Path(__file__).parent)


def judged(folder: Path, model: Path, how: str, ranks: int = 2) -> list[tuple[int, str, str]]:
    command = ("-m", "support.sharded_judging", str(model), how)
    return ended(start(ranks, folder, *command, PYTHONPATH=TESTS), 100)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "family"), [("tensor", "llama"), ("pipeline", "qwen2")])
def test_two_ranks_judge_as_the_whole_model_does(tmp_path: Path, how: str, family: str) -> None:
    model = judge_model(tmp_path / "model", family)
    expected = probabilities(str(model), "none")
    assert max(expected) - min(expected) > 0.1, "the judge says the same of all pairs: the test shows nothing"
    for code, said, errors in judged(tmp_path, model, how):
        assert code == 0, errors
        assert json.loads(said.splitlines()[-1]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "family", "ranks", "said"),
    [
        (
            "tensor",
            "llama",
            3,
            "its num_attention_heads is 4, which 3 ranks cannot share evenly; 1 or 2 or 4 can",
        ),
        ("pipeline", "llama", 2, "does not support pipelining"),
    ],
)
def test_a_model_that_cannot_be_split_is_refused_on_every_rank(
    tmp_path: Path, how: str, family: str, ranks: int, said: str
) -> None:
    model = judge_model(tmp_path / "model", family)
    for code, _, errors in judged(tmp_path, model, how, ranks):
        assert code == 1
        assert said in errors
        assert "Traceback" not in errors


@pytest.mark.slow
def test_a_run_with_a_judge_on_two_ranks_has_the_labels_of_a_run_with_the_whole_judge(tmp_path: Path) -> None:
    model = judge_model(tmp_path / "model", "llama")
    ledgers = []
    for ranks, how in ((1, "none"), (2, "tensor")):
        folder = tmp_path / how
        folder.mkdir()
        training = {**SETTINGS["training"], "batch_size": 4, "iters": 4, "schedule": None}
        judge = {"use": "llm", "model": str(model), "sharded": how, "min_label_mass": 0, "tie_margin": 0}
        settings = settings_for(folder / "run", training=training, judge=judge, evaluation={"held_out": 3})
        (folder / "c.yaml").write_text(json.dumps(settings))
        for code, output, errors in ended(start(ranks, folder, "-m", "prefloop", "train", "c.yaml"), 100):
            assert code == 0, output + errors
        ledgers.append(lines(folder / "run" / "judgements.jsonl"))
    whole, spread = ledgers
    assert [line["first"] for line in spread] == [line["first"] for line in whole]
    found, expected = ([line["probability"] for line in ledger] for ledger in (spread, whole))
    assert found == pytest.approx(expected, abs=1e-4)


def test_a_process_that_is_alone_is_told_to_start_several() -> None:
    judge = component("judge", "llm")(model="embedded:judge", sharded="tensor")
    with pytest.raises(UserError, match=r"sharded: tensor spreads the judge over the ranks .* --ranks 2"):
        judge.prepare()


@pytest.mark.parametrize("option", [{"quantize": "4bit"}, {"thinking": True}, {"read": "reply"}])
def test_what_ranks_could_not_do_alike_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a sharded judge"):
        component("judge", "llm")(model="embedded:judge", sharded="tensor", **option)


def test_a_judge_that_all_ranks_have_to_ask_is_not_asked_on_one() -> None:
    from prefloop.ranks.group import Ranks
    from prefloop.ranks.judging import FirstJudge, SpreadJudge, judge_together

    spread = component("judge", "llm")(model="embedded:judge", sharded="tensor")
    whole = component("judge", "llm")(model="embedded:judge")
    two = Ranks(0, 2)
    assert isinstance(judge_together(two, spread), SpreadJudge)
    assert isinstance(judge_together(two, whole, "first"), FirstJudge)
    with pytest.raises(UserError, match=r"judging.ranks: first asks on one rank"):
        judge_together(two, spread, "first")
    committee = component("judge", "committee")(members=(whole, spread))
    with pytest.raises(UserError, match="a judge that is made of others asks on one rank"):
        judge_together(two, committee)
