"""What the speed benchmark concludes from its measurements: ratios, equal work, counted arithmetic, tables.

No time is asserted; ``python -m benchmarks.speed`` measures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import memory_plan
from benchmarks.speed import counting, measuring, models, ours, page, pairing, rows, table, versus, words

from prefloop import UserError
from prefloop_plugins.questions import fence_for, user_message

ROOT = Path(__file__).resolve().parent.parent
TINY = rows.Size(64, 2, 128, 4, 2, 16, 1024)
ROW = rows.Row("S", 2, 5, "80")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny policy and a tiny judge, made as the large ones are."""
    folder = tmp_path_factory.mktemp("models")
    models.make(folder / "policy", TINY)
    models.make(folder / "judge", TINY, judge=True)
    return {"policy": str(folder / "policy"), "judge": str(folder / "judge")}


@pytest.fixture(scope="module")
def result(folders: dict[str, str]) -> measuring.Result:
    """prefloop's side of a tiny row."""
    return {**ours.run({**ROW.job(0, 2, 1), **folders, "orders": "fixed"}), "load_before": 0.0}


def test_a_ratio_is_taken_within_each_round() -> None:
    theirs, mine = np.array([4.0, 9.0, 5.0]), np.array([2.0, 3.0, 2.0])
    ratio = pairing.paired(theirs.tolist(), mine.tolist())
    assert (ratio.median, ratio.low, ratio.high) == (2.5, 2.0, 3.0)
    with pytest.raises(ValueError):
        pairing.paired([1.0, 2.0], [1.0])
    assert pairing.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_a_step_of_prefloop_does_the_work_of_its_row(result: measuring.Result) -> None:
    assert pairing.unequal(ROW.as_json(), result, result) == []
    assert result["sampled"] == [20, 20]
    assert result["questions"] == [2 * (80 + rows.PROMPT_LENGTH - 3 + 10)] * 2
    assert len(result["prompts"]) == 3 and result["peak_mb"] > result["held_mb"] > 0
    seconds = pairing.summary(result)["seconds"]
    assert seconds["step"] > max(seconds["sampling"], seconds["judging"], seconds["scoring"])
    assert seconds["update"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampled": [20, 19]}, "sampled tokens"),
        ({"scored": [20, 0]}, "scored tokens"),
        ({"questions": [1, 1]}, "questions"),
        ({"trained": 1}, "trained"),
        ({"prompts": []}, "prompts"),
        ({"replies": ["0", "perhaps"]}, "perhaps"),
    ],
)
def test_no_ratio_is_shown_of_unequal_work(
    result: measuring.Result, change: dict[str, Any], said: str
) -> None:
    found = versus.report(ROW, {"prefloop": [result], "mlx-lm-lora": [{**result, **change}]})
    assert [said in line for line in found["unequal"]] == [True]
    assert "times" not in found
    assert "unequal work" in table.steps({"table": {ROW.name: {**found, "commit": "abc"}}})


def test_equal_work_is_compared(result: measuring.Result) -> None:
    slower = {**result, "step": [3 * s for s in result["step"]], "peak_mb": 2 * result["peak_mb"]}
    both = {**result, "questions": [2 * count for count in result["questions"]]}
    sides = {"prefloop": [result], "mlx-lm-lora": [slower], "both": [both]}
    found = versus.report(ROW, sides)
    assert found["unequal"] == []
    for orders in ("one order", "both orders"):
        assert found["times"][orders]["step"]["median"] == pytest.approx(3)
        assert found["times"][orders]["peak_mb"]["median"] == pytest.approx(2)
    assert "3.00 (3.00 to 3.00)" in table.steps({"table": {ROW.name: {**found, "commit": "abc"}}})


def test_tokens_are_words_and_read_back_as_themselves(folders: dict[str, str]) -> None:
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(Path(folders["policy"]), eos_token_ids=TINY.vocabulary)
    ids = np.random.default_rng(0).permutation(TINY.vocabulary).tolist()
    start = tokenizer.apply_chat_template(
        [{"role": "user", "content": words.prompts(1, 40, 0)[0]}], add_generation_prompt=True, tokenize=False
    )
    assert tokenizer.encode(start + tokenizer.decode(ids))[40:] == ids


@pytest.mark.parametrize("fixed", [80, 256, 1000])
def test_both_sides_ask_questions_of_the_same_length(folders: dict[str, str], fixed: int) -> None:
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(Path(folders["judge"]))
    texts = [words.prompts(1, 40, 0)[0], "word1 word2", "word3"]

    def tokens(*messages: dict[str, str]) -> list[int]:
        ids: list[int] = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True)
        return ids

    user = user_message(*texts, labels=words.LABELS, fence=fence_for(*texts))
    mine = tokens({"role": "system", "content": words.rubric(fixed)}, {"role": "user", "content": user})
    quoted = tokenizer.apply_chat_template(
        [{"role": "user", "content": texts[0]}], add_generation_prompt=True, tokenize=False
    )
    asked = words.question_with_rubric(fixed).format(prompt=quoted, response0=texts[1], response1=texts[2])
    theirs = tokens({"role": "user", "content": asked})
    assert len(mine) == len(theirs) == fixed + 37 + 3


def test_the_judge_says_a_label_and_ends_its_turn(folders: dict[str, str]) -> None:
    from mlx_lm import generate, load

    model, tokenizer = load(folders["judge"])
    question = words.question_with_rubric(80)
    for seed in range(4):
        prompt, first, second = (words.prompts(1, n, seed)[0] for n in (40, 20, 30))
        text = question.format(prompt=prompt, response0=first, response1=second)
        turn = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        assert generate(model, tokenizer, turn, max_tokens=4) in words.LABELS


def test_arithmetic_is_that_of_the_products() -> None:
    size, seen, tokens = TINY, 3, 4
    shapes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    products = sum(2 * 5 * tokens * a * b for a, b in shapes)
    lower = np.tril(np.ones((tokens, seen + tokens)), seen).sum()
    attention = 5 * size.heads * 2 * 2 * lower * size.head_dim
    found = counting.passing(size, rows=5, tokens=tokens, seen=seen)
    assert found.operations == size.layers * (products + attention)
    assert found.weights_read == 4 * size.layers * sum(a * b for a, b in shapes)
    assert found.exponentials == size.layers * (5 * tokens * 128 + 5 * size.heads * lower)
    head = counting.heading(size, 7)
    assert (head.operations, head.exponentials) == (2 * 7 * 64 * 1024, 7 * 1024)
    slow_to_read = counting.Work(operations=1e9, weights_read=4e9, exponentials=1e6)
    assert slow_to_read.seconds(gigaflops=1, gigabytes=2, nanoseconds=5) == pytest.approx((2.0, 0.005))


def test_models_have_the_parameters_that_are_counted(folders: dict[str, str]) -> None:
    from mlx.utils import tree_flatten
    from mlx_lm import load

    model, _ = load(folders["policy"])
    matrices = sum(v.size for _, v in tree_flatten(model.parameters()) if v.ndim == 2)
    assert matrices == TINY.body + TINY.head
    millions = {name: round((s.body + s.head) / 1e6, 1) for name, s in rows.SIZES.items()}
    assert (millions["S"], millions["X"], millions["M"]) == (5.8, 43.6, 99.6)


def test_rows_by_name() -> None:
    for row in (*rows.TABLE, *rows.MEMORY):
        assert rows.named(row.name) == row
    assert rows.named("X-b16-c256-long").size.vocabulary == 151_936
    for name in ("S-b4", "Z-b4-c64-short", "S-b4-c64-medium"):
        with pytest.raises(ValueError, match=name):
            rows.named(name)


def test_phases_follow_on_each_other_and_last_as_long_as_is_reported(result: measuring.Result) -> None:
    sampling, judging, scoring = result["spans"].values()
    assert list(result["spans"]) == ["sampling", "judging", "scoring"]
    for step, ((_, asked), (begun, judged), (scored, end)) in enumerate(
        zip(sampling, judging, scoring, strict=True)
    ):
        assert asked == begun < judged == scored < end
        assert end - scored == pytest.approx(result["scoring"][step])
    assert sampling[1][0] >= scoring[0][1]


def test_page_has_the_last_results() -> None:
    written = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks" / "results" / "speed.json").read_text())
    assert page.filled(written, results) == written
    with pytest.raises(UserError, match="no table 'speeds'"):
        page.filled("<!-- speed: speeds -->\n<!-- end -->", results)


def test_page_has_the_last_memory_plans() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    results = json.loads(memory_plan.RESULTS.read_text())
    assert memory_plan.table(results) in page
    assert memory_plan.filled(page, results) == page
    ratios = [found["planned"] / max(found["peaks"].values()) for found in results.values()]
    assert min(ratios) > 0.8 and max(ratios) < 1.2
