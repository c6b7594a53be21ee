"""The guard over the judge: what stops a run, what does not, and the whole way through `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve

from prefloop import Completion, Pair, Progress, Prompt, StopRun, Verdict
from prefloop.config import load_config
from prefloop.errors import UserError
from prefloop.runs.guards import JudgeGuard, guards, kind_of
from prefloop.settings import JudgingConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROGRESS = Progress(1, 1, 0.0, 1.0)
PAIR = Pair(Prompt((), "p"), Completion((), "x"), Completion((), "y"))
EQUAL = evolve(PAIR, second=PAIR.first)
MIXED = evolve(PAIR, second=Completion((), "y", source="reference"))
FIRST, SECOND, TIE, ERROR = Verdict(0.9), Verdict(0.1), Verdict.tie(), Verdict.error("no room")
BIASED = Verdict.tie(orders=(0.97, 0.04))


@pytest.mark.parametrize(
    ("pair", "verdict", "kind"),
    [
        (PAIR, ERROR, "error"),
        (EQUAL, ERROR, "error"),
        (PAIR, TIE, "tie"),
        (PAIR, Verdict(0.5), "tie"),
        (EQUAL, TIE, None),
        (PAIR, Verdict.abstain(), None),
        (PAIR, FIRST, "shown first"),
        (PAIR, SECOND, "shown second"),
        (MIXED, FIRST, None),  # the policy may well be better than the reference every time
        (MIXED, TIE, "tie"),
        (PAIR, BIASED, "shown first"),
        (MIXED, BIASED, "shown first"),
        (EQUAL, BIASED, None),
        (PAIR, Verdict.tie(orders=(0.1, 0.9)), "shown second"),
        (PAIR, Verdict.tie(orders=(0.5, 0.5)), "tie"),
        (PAIR, Verdict(0.55, orders=(0.98, 0.12)), "shown first"),  # a gap near one
        (PAIR, Verdict(0.65, orders=(0.9, 0.4)), None),  # biased, but it says something
        (PAIR, Verdict(0.95, orders=(1.0, 0.9)), None),
        (PAIR, Verdict(0.05, orders=(0.0, 0.1)), None),
    ],
)
def test_verdicts_are_sorted_into_kinds(pair: Pair, verdict: Verdict, kind: str | None) -> None:
    assert kind_of(pair, verdict) == kind


def watch(guard: JudgeGuard, verdicts: Sequence[Verdict], size: int = 4) -> str | None:
    """Tell the guard of verdicts in batches; what it stopped the run with, if it did."""
    try:
        for start in range(0, len(verdicts), size):
            batch = verdicts[start : start + size]
            guard.pairs_judged(PROGRESS, [PAIR] * len(batch), batch)
    except StopRun as stop:
        assert stop.failed
        return stop.reason
    return None


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ([ERROR] * 10 + [FIRST, SECOND] * 5, None),
        ([FIRST, SECOND] * 5 + [ERROR] * 11 + [FIRST] * 4, "11 of its last 20 verdicts are errors"),
        ([ERROR] * 19, None),  # the window is not full yet
        ([FIRST] * 20, "20 of its last 20 verdicts"),
        ([FIRST] * 19 + [SECOND], None),
        ([SECOND] * 20, "went to whichever answer it was shown second"),
        ([TIE] * 20, "are ties although the answers differ"),
        ([BIASED] * 20, "went to whichever answer it was shown first"),
        ([FIRST, SECOND] * 10 + [BIASED] * 18, None),
        ([FIRST, SECOND] * 10 + [BIASED] * 20, "shown first"),
    ],
)
def test_a_guard_with_a_window_of_twenty(verdicts: list[Verdict], message: str | None) -> None:
    said = watch(JudgeGuard(JudgingConfig(window=20)), verdicts)
    assert said is None if message is None else message in (said or "")


def test_the_message_names_the_problem_and_the_fix() -> None:
    assert watch(JudgeGuard(JudgingConfig(window=4, max_errors=0.25)), [FIRST, ERROR, SECOND, ERROR]) == (
        "judge: 2 of its last 4 verdicts are errors, more than judging.max_errors (0.25) allows. "
        "The last one: no room"
    )
    assert watch(JudgeGuard(JudgingConfig(window=4)), [BIASED] * 4) == (
        "judge: 4 of its last 4 verdicts, more than judging.max_same_outcome (0.95) allows, went to "
        "whichever answer it was shown first. Look at judgements.jsonl, and try the judge on pairs whose "
        "answer you know: a larger model, a clearer rubric or both orders may help."
    )


def test_the_guard_can_be_switched_off() -> None:
    assert watch(JudgeGuard(JudgingConfig(window=0)), [ERROR] * 500) is None
    assert watch(JudgeGuard(JudgingConfig(window=4, max_errors=1.0)), [ERROR] * 500) is None
    assert watch(JudgeGuard(JudgingConfig(window=4, max_same_outcome=1.0)), [TIE] * 500) is None


def test_the_guard_s_settings_are_loaded_and_checked() -> None:
    judging = {"window": 50, "max_errors": 0.2, "max_same_outcome": 0.8}
    assert load_config({"model": "m", "prompts": "p", "judging": judging}).judging == JudgingConfig(**judging)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"judging\.max_errors: must be <= 1, not 50"):
        load_config({"model": "m", "prompts": "p", "judging": {"max_errors": 50}})


def test_a_human_judge_has_no_guard() -> None:
    config = load_config({"model": "m", "prompts": "p", "judge": "human"})
    assert guards(config) == ()
    (guard,) = guards(evolve(config, judge=Says(TIE), judging=JudgingConfig(window=3)))
    assert guard.settings.window == 3


@define
class Says:
    """A judge that gives one verdict whatever it is asked."""

    verdict: Verdict

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self.verdict] * len(pairs)


@pytest.mark.parametrize(("verdict", "words"), [(ERROR, "are errors"), (BIASED, "shown first")])
def test_a_run_whose_judge_fails_the_guard_stops(
    verdict: Verdict, words: str, tmp_path: Path, model_folder: Any
) -> None:
    from prefloop.runs.training import train

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Say {i}."}}\n' for i in range(8)), "utf-8")
    config = load_config(
        {
            "model": str(model_folder("qwen3")),
            "prompts": str(prompts),
            "judge": "human",
            "sampler": {"use": "policy", "max_completion_length": 4, "temperature": 1.0},
            "training": {"batch_size": 2, "iters": 20},
            "evaluation": {"held_out": 0},
            "judging": {"window": 4},
            "output": {"path": str(tmp_path / "run"), "report": False},
        }
    )
    run = train(evolve(config, judge=Says(verdict)))
    assert run.status == "failed"
    assert words in run.manifest["reason"]
    assert run.summary["steps"] < 5
    judged = (tmp_path / "run" / "judgements.jsonl").read_text("utf-8")
    assert len(judged.splitlines()) >= 4
