"""What the speed benchmark and the memory plan conclude from their measurements. No time is asserted."""

from __future__ import annotations

import getpass
import json
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from benchmarks import memory_plan
from benchmarks.harness import records
from benchmarks.harness.internals import fence_for, user_message
from benchmarks.speed import (
    comparing,
    english,
    floor,
    measuring,
    models,
    ours,
    pairing,
    plan_worker,
    rates_worker,
    rows,
    sharing,
    tables,
    words,
)

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
    found = ours.run({**ROW.job(0, 2, 1), **folders, "orders": "fixed"})
    return {**found, "load_before": 0.0, "device": "cpu", "versions": dict.fromkeys(measuring.SAME, "1")}


def test_a_step_of_prefloop_does_the_work_of_its_row(result: measuring.Result) -> None:
    assert pairing.unequal(ROW.as_json(), result, result) == []
    assert result["sampled"] == [20, 20]
    assert result["questions"] == [2 * (80 + rows.PROMPT_LENGTH - 3 + 10)] * 2
    assert len(result["prompts"]) == 3 and result["peak_mb"] > result["held_mb"] > 0
    assert len(result["step"]) == 2 and min(result["step"]) > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampled": [20, 19]}, "sampled tokens"),
        ({"scored": [20, 0]}, "scored tokens"),
        ({"questions": [1, 1]}, "questions"),
        ({"trained": 1}, "trained"),
        ({"prompts": []}, "prompts"),
        ({"replies": ["0", "perhaps"]}, "perhaps"),
        (
            {"versions": dict.fromkeys(measuring.SAME, "1") | {"mlx": "2"}},
            "mlx has different versions: 1 and 2",
        ),
    ],
)
def test_no_ratio_is_shown_of_unequal_work(
    result: measuring.Result, change: dict[str, Any], said: str
) -> None:
    found = comparing.report(ROW, {"prefloop": [result], "mlx-lm-lora": [{**result, **change}]})
    assert [said in line for line in found["unequal"]] == [True]
    assert "times" not in found
    assert "unequal work" in tables.steps([found])


def test_equal_work_is_compared(result: measuring.Result) -> None:
    slower = {**result, "step": [3 * s for s in result["step"]], "peak_mb": 2 * result["peak_mb"]}
    both = {**result, "questions": [2 * count for count in result["questions"]]}
    sides = {"prefloop": [result], "mlx-lm-lora": [slower], "both": [both]}
    found = comparing.report(ROW, sides)
    assert found["unequal"] == []
    for own in ("prefloop", "both"):
        assert found["times"]["mlx-lm-lora"][own]["step_seconds"]["median"] == pytest.approx(3)
        assert found["times"]["mlx-lm-lora"][own]["peak_mb"]["median"] == pytest.approx(2)
    assert tables.steps([found]).count("3.00 (3.00 to 3.00)") == 2
    held, peak = (round(result[name]) for name in ("held_mb", "peak_mb"))
    assert f"| {held} / {held} | {round(2 * result['peak_mb'])} / {peak} |" in tables.memory([found])


def test_a_rollout_is_timed_as_a_whole(folders: dict[str, str]) -> None:
    job = {**ROW.job(0, 4, 1), **folders, "orders": "fixed", "training": {"rollout": 2}}
    found = ours.run(job)
    first, second, third, fourth = found["step"]
    assert first == second and third == fourth and second != third
    assert found["sampling"][0] == found["sampling"][1] < first
    assert found["sampled"] == [20] * 4
    alone = ours.run({**ROW.job(0, 4, 1), **folders, "orders": "fixed"})
    assert len(set(alone["step"])) == 4 and alone["prompts"] == found["prompts"]


def test_each_step_of_a_rollout_gets_an_equal_share() -> None:
    assert measuring.shared([9.0, 5.0, 1.0, 6.0, 2.0, 7.0], warmup=1, rollout=2) == [9, 3, 3, 4, 4, 7]
    assert measuring.shared([9.0, 5.0], warmup=1, rollout=1) == [9, 5]


@pytest.fixture(scope="module")
def real_row(result: measuring.Result) -> dict[str, Any]:
    """What a row on the pretrained model comes to, with the figures of the tiny one; TRL is half as fast."""
    theirs = {name: value for name, value in result.items() if name != "versions"}
    theirs |= {"step": [2 * s for s in result["step"]], "held_mb": None, "peak_mb": None, "rss_mb": 1e9}
    theirs["versions"] = {"torch": "1", "numpy": "1"}
    longer = {name: 2 * value if isinstance(value, list) else value for name, value in result.items()}
    row = evolve(ROW, kind="real", rubric="rule", rollout=4)
    sides = {"prefloop": [result], "TRL": [theirs], "rollout": [longer]}
    found = comparing.report(row, sides)
    rates = {"gigaflops": 100.0, "gigabytes": 10.0}
    floors = {name: floor.phases(row, sides[name], rates) for name in ("prefloop", "rollout")}
    return {**found, "rates": rates, "floors": floors}


def test_a_real_row_shows_every_side(real_row: dict[str, Any]) -> None:
    assert real_row["unequal"] == []
    shown = tables.real([real_row])
    trl, own, rollout = shown.splitlines()[2:]
    assert "| TRL |" in trl and "2.00 (2.00 to 2.00)" in own and "| 1000000000 |" in trl
    assert "prefloop, rollout 4" in rollout and "2.00 (2.00 to 2.00)" in rollout
    step, floors = real_row["sides"]["prefloop"]["step_seconds"], real_row["floors"]["prefloop"]
    times = step / sum(phase["seconds"] for phase in floors.values())
    own = tables.work([real_row]).splitlines()[3]
    assert own.endswith(f"| {times:.1f} |") and own.count("(") == 2, "the rule's judging has no floor"
    assert tables.rates([real_row]) == "100 to 100 GFLOP/s and 10 to 10 GB/s."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (rows.real(1, "llm"), "pairwise judge"),
        (rows.real(1, "rule", bits=4), "quantized"),
        (ROW, "kind"),
        (rows.real(1, "rule"), None),
    ],
)
def test_what_trl_cannot_do_is_said(row: rows.Row, said: str | None, real_row: dict[str, Any]) -> None:
    missing = row.missing()
    assert list(missing) == ([] if said is None else ["TRL"])
    assert said is None or said in missing["TRL"]
    if missing and row.kind == "real":
        sides = {name: side for name, side in real_row["sides"].items() if name != "TRL"}
        shown = tables.real([{**real_row, "sides": sides, "missing": missing}])
        assert "| TRL | cannot |" in shown


def test_a_shared_block_has_every_side_and_nothing_private(real_row: dict[str, Any]) -> None:
    missing = {"mlx-lm-lora": "it is not installed"}
    text = sharing.block([real_row], missing)
    assert text.startswith("<details>") and text.endswith("</details>")
    assert "| TRL |" in text and "prefloop, rollout 4" in text and "GiB" in text
    assert "- mlx-lm-lora: not measured, it is not installed" in text
    found = json.loads(text.split("```json\n")[1].split("\n```")[0])
    assert found == json.loads(json.dumps([real_row]))
    for private in (platform.node(), str(Path.home()), str(records.RESULTS), getpass.getuser(), "/tmp"):
        assert not re.search(rf"(?<![a-z]){re.escape(private)}(?![a-z])", text), private


def test_what_all_questions_begin_with() -> None:
    assert ours.common([[1, 2, 3], [1, 2], [1, 2, 4]]) == 2
    assert ours.common([[1, 2]]) == 2 and ours.common([[1], [2]]) == ours.common([]) == 0


def test_nothing_is_shared_where_nothing_was_measured() -> None:
    text = sharing.block([], {"SmolLM2-b1-c48-rule": "it failed"})
    assert "- SmolLM2-b1-c48-rule: not measured, it failed" in text


def test_the_floor_of_a_hand_worked_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One prompt of 3 tokens, two completions of 2, one layer of 112 weights and a head of 40."""
    size = rows.Size(4, 1, 4, 1, 1, 4, 10)
    assert (size.body, size.head) == (112, 40)
    monkeypatch.setitem(rows.SIZES, "tiny", size)
    row = rows.Row("tiny", 1, 2, "80")
    result = {"prompted": [3], "questions": [9], "kept_of_question": 5}
    fast = {"gigaflops": 1.0, "gigabytes": 1e9}
    found = floor.phases(row, [result], fast)
    attention = 4 * 4  # operations for each position that a token looks at
    reading = 2 * 3 * 112 + attention * 4.5
    decoding = 2 * (2 * 2 * (112 + 40)) + attention * (2 * 3 + 2 * 4)
    assert found["sampling"]["gigaflop"] == pytest.approx((reading + decoding) / 1e9)
    asked = 2 * (4 * 112 + 40) + attention * 4 * (5 + 2)
    assert found["judging"]["gigaflop"] == pytest.approx(asked / 1e9)
    once = 2 * ((3 + 4) * 112 + 4 * 40) + attention * (4.5 + 4 * (3 + 1))
    assert found["scoring"]["gigaflop"] == pytest.approx(3 * once / 1e9)
    for phase in found.values():
        assert phase["seconds"] == pytest.approx(phase["gigaflop"]), "at one GFLOP/s"
    slow = floor.phases(row, [result], {"gigaflops": 1e9, "gigabytes": 1.0})
    assert slow["sampling"]["seconds"] == pytest.approx(4 * (112 + 2 * 152) / 1e9)
    pooled = floor.phases(row, [result], {"gigaflops": 1e9, "gigabytes": 1.0}, pool=4)
    assert pooled["sampling"]["seconds"] == pytest.approx(slow["sampling"]["seconds"] / 4)
    assert pooled["sampling"]["gigaflop"] == pytest.approx(found["sampling"]["gigaflop"])
    whole = floor.phases(evolve(row, training="full"), [result], fast)
    assert whole["scoring"]["gigaflop"] == pytest.approx(4 * once / 1e9)
    quantized = floor.phases(evolve(row, bits=4), [result], {"gigaflops": 1e9, "gigabytes": 1.0})
    assert quantized["sampling"]["seconds"] == pytest.approx(0.625 / 4 * slow["sampling"]["seconds"])


def test_the_rates_of_this_machine_are_rates() -> None:
    found = rates_worker.run({})["rates"]
    assert found["gigaflops"] > 0.1 and found["gigabytes"] > 0.1


def test_an_earlier_commit_is_compared_without_versions_of_its_own(result: measuring.Result) -> None:
    earlier = {name: value for name, value in result.items() if name not in ("versions", "device")}
    earlier |= {"step": [2 * s for s in result["step"]], "peak_mb": result["peak_mb"] / 2}
    found = comparing.report(ROW, {"prefloop": [result] * 2, "earlier": [earlier] * 2})
    assert found["unequal"] == []
    shown = tables.against_version([found], "abc")
    assert "abc / now" in shown and "2.00 (2.00 to 2.00)" in shown and "0.50 (0.50 to 0.50)" in shown


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


def test_models_have_the_parameters_that_are_counted(folders: dict[str, str]) -> None:
    from mlx.utils import tree_flatten
    from mlx_lm import load

    model, _ = load(folders["policy"])
    matrices = sum(v.size for _, v in tree_flatten(model.parameters()) if v.ndim == 2)
    assert matrices == TINY.body + TINY.head
    millions = {name: round((s.body + s.head) / 1e6, 1) for name, s in rows.SIZES.items()}
    assert (millions["S"], millions["X"], millions["M"]) == (5.8, 43.6, 99.6)


def test_rows_by_name() -> None:
    for row in rows.EVERY:
        assert rows.named(row.name) == row
    names = [row.name for row in rows.EVERY]
    assert len(set(names)) == len(names) and {row.name for row in rows.SHARED} <= set(names)
    assert rows.named("X-b16-c256-long").size.vocabulary == 151_936
    for name in ("S-b4", "Z-b4-c64-short", "S-b4-c64-medium"):
        with pytest.raises(ValueError, match=name):
            rows.named(name)


def test_the_plan_is_within_a_fifth_of_the_measured_peak() -> None:
    results = records.load(memory_plan.RESULTS)
    assert list(results) == list(memory_plan.CASES)
    ratios = [found["planned"] / max(found["peaks"].values()) for found in results.values()]
    assert min(ratios) > 0.8 and max(ratios) < 1.2


def test_peaks_of_a_tiny_row_belong_to_its_phases(folders: dict[str, str]) -> None:
    found = plan_worker.run({**ROW.job(0, 1, 0), **folders, "orders": "both"})
    assert list(found["peaks"]) == ["sampling", "judging", "scoring"]
    terms = found["terms"]
    held = sum(terms[name] for name in ("weights", "judge", "trained", "optimizer"))
    assert found["planned"] == held + max(terms[name] for name in ("caches", "activations", "update"))


def test_a_real_tokenizer_may_change_a_tenth_of_the_tokens() -> None:
    row = rows.real(1, "rule")
    side: measuring.Result = {"prompts": [], "sampled": [96], "scored": [96], "questions": [0], "trained": 1}
    assert pairing.unequal(row.as_json(), side, {**side, "scored": [90]}) == []
    (line,) = pairing.unequal(row.as_json(), side, {**side, "scored": [80]})
    assert "scored tokens" in line


def test_a_pretrained_model_gets_prompts_of_its_own() -> None:
    job = rows.real(4, "llm", training="full").job(seed=1, steps=2, warmup=1)
    assert len(set(job["prompts"])) == 12 and job["pretrained"] and not job["rule"]
    assert job["adapter"] == {"type": "full"}
    assert job["prompts"] != rows.real(4, "llm").job(seed=2, steps=2, warmup=1)["prompts"]
    asked = job["question"].format(prompt="p", response0="a", response1="b")
    assert asked.startswith(job["rubric"][:100]) and "Answer 1: b" in asked
    with pytest.raises(ValueError, match="there are 96 prompts"):
        english.prompts(97, 0)
