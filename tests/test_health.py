"""The guard over the judge: what stops a run, what does not, and the whole way through `train`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve

from prefloop import Completion, Evaluation, Pair, Progress, Prompt, Step, StopRun, Verdict
from prefloop.config import load_config
from prefloop.errors import UserError
from prefloop.evaluation.stats import wilson
from prefloop.runs.guards import ENOUGH, Guard, kind_of
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
BY_PLACE = Verdict(0.52, orders=(0.85, 0.19))  # a label, of which the place made all


@pytest.mark.parametrize(
    ("pair", "verdict", "kind"),
    [
        (PAIR, ERROR, "error"),
        (EQUAL, ERROR, "error"),
        (PAIR, TIE, "tie"),
        (PAIR, Verdict(0.5), "tie"),
        (EQUAL, TIE, "equal"),
        (EQUAL, Verdict(0.9), "equal"),
        (PAIR, Verdict.abstain(), None),
        (PAIR, FIRST, "shown first"),
        (PAIR, SECOND, "shown second"),
        (MIXED, FIRST, None),  # the policy may well be better than the reference every time
        (MIXED, TIE, "tie"),
        (PAIR, BIASED, "contradiction"),
        (MIXED, BIASED, "contradiction"),
        (EQUAL, BIASED, "equal"),
        (PAIR, BY_PLACE, "contradiction"),
        (PAIR, Verdict.tie(orders=(0.1, 0.9)), "contradiction"),
        (PAIR, Verdict.tie(orders=(0.5, 0.5)), "tie"),
        (PAIR, Verdict(0.65, orders=(0.9, 0.4)), "contradiction"),
        (PAIR, Verdict(0.95, orders=(1.0, 0.9)), None),
        (PAIR, Verdict(0.7, orders=(0.9, 0.5)), None),  # one order does not say
        (PAIR, Verdict(0.05, orders=(0.0, 0.1)), None),
    ],
)
def test_verdicts_are_sorted_into_kinds(pair: Pair, verdict: Verdict, kind: str | None) -> None:
    assert kind_of(pair, verdict) == kind


def guard_of(*, judge: Any = None, max_kl: float | None = None, **judging: Any) -> Guard:
    config = load_config({"model": "m", "prompts": "p", "judge": {"use": "rule", "length": "longer"}})
    training = evolve(config.training, max_kl=max_kl)
    config = evolve(config, judging=JudgingConfig(**judging), training=training)
    return Guard(config if judge is None else evolve(config, judge=judge))


def watch(guard: Guard, verdicts: Sequence[Verdict], size: int = 4, pair: Pair = PAIR) -> str | None:
    """Tell the guard of verdicts in batches, and of the end; what it stopped the run with, if it did."""
    try:
        for start in range(0, len(verdicts), size):
            batch = verdicts[start : start + size]
            guard.pairs_judged(PROGRESS, [pair] * len(batch), batch)
        guard.check_end()
    except StopRun as stop:
        assert stop.failed
        return stop.reason
    return None


FAIR = [FIRST, SECOND]


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ([ERROR] * 10 + FAIR * 5, None),
        (FAIR * 5 + [ERROR] * 11 + [FIRST] * 4, "11 of its last 20 verdicts are errors"),
        ([ERROR] * (ENOUGH - 1), None),
        ([ERROR] * ENOUGH, "16 of its last 16 verdicts are errors"),
        (FAIR * 4 + [ERROR] * 10, "10 of its last 18 verdicts are errors"),  # at the end of the run
        ([FIRST] * 16, "16 of its last 16 verdicts"),
        ([FIRST] * 19 + [SECOND], "16 of its last 16 verdicts"),
        ([SECOND, *[FIRST] * 15, SECOND], None),
        ([SECOND] * 20, "went to whichever answer it was shown second"),
        ([TIE] * 15, None),
        ([TIE] * 19, "19 of its last 19 verdicts"),  # not before the end
        ([BY_PLACE] * 16, "contradicted itself"),
        (FAIR * 10 + [BIASED] * 19, None),
        (FAIR * 10 + [BIASED] * 20, "contradicted itself"),
    ],
)
def test_a_guard_with_a_window_of_twenty(verdicts: list[Verdict], message: str | None) -> None:
    said = watch(guard_of(window=20), verdicts)
    assert said is None if message is None else message in (said or "")


def test_ties_are_waited_for_and_bad_judges_are_not() -> None:
    patient = guard_of(window=100)
    patient.pairs_judged(PROGRESS, [PAIR] * 60, [TIE] * 60)
    with pytest.raises(StopRun, match="are errors"):
        guard_of(window=100).pairs_judged(PROGRESS, [PAIR] * 16, [ERROR] * 16)


def test_pairs_of_equal_answers_count() -> None:
    assert "two equal answers" in (watch(guard_of(window=20), [TIE] * 20, pair=EQUAL) or "")


def test_a_guard_goes_on_where_it_was() -> None:
    before = guard_of(window=100)
    before.pairs_judged(PROGRESS, [PAIR] * 12, [ERROR] * 12)
    after = guard_of(window=100)
    after.restore(json.loads(json.dumps(before.state())))
    with pytest.raises(StopRun, match=r"16 of its last 16 verdicts are errors.*no room"):
        after.pairs_judged(PROGRESS, [PAIR] * 4, [ERROR] * 4)


def step_with(**metrics: float) -> Step:
    return Step(PROGRESS, metrics, [EQUAL, PAIR], [TIE, ERROR])


def test_steps_without_a_label_end_a_run() -> None:
    guard = guard_of(max_unlabelled=3)
    for labelled in (0.0, 0.0, 2.0, 0.0, 0.0):
        guard.step_finished(step_with(labelled=labelled))
    with pytest.raises(
        StopRun, match=r"last 3 steps had no label.*Of the last 2 pairs, 1 had two equal answers"
    ):
        guard.step_finished(step_with(labelled=0.0))
    never = guard_of(max_unlabelled=None)
    for _ in range(500):
        never.step_finished(step_with(labelled=0.0))


def test_a_policy_too_far_from_its_reference_ends_a_run() -> None:
    guard = guard_of(max_kl=10.0)
    for kl in (1.0, 9.0, 19.0, math.nan):  # one step is noise: the mean counts
        guard.step_finished(step_with(labelled=1.0, kl=kl))
    with pytest.raises(StopRun, match=r"12\.2 nats .* more than training\.max_kl \(10\)"):
        guard.step_finished(step_with(labelled=1.0, kl=20.0))


def test_the_first_evaluation_tells_a_judge_that_only_fails_or_contradicts_itself() -> None:
    def evaluation(verdict: Verdict, pairs: int, step: int = 0) -> Evaluation:
        return Evaluation(step, wilson(0, 0), {}, [PAIR] * pairs, [verdict] * pairs)

    for verdict, words in ((ERROR, "verdicts are errors.*no room"), (BY_PLACE, "contradicted itself")):
        with pytest.raises(StopRun, match=f"the judge of evaluations.*{words}"):
            guard_of().evaluated(evaluation(verdict, ENOUGH))
    with pytest.raises(StopRun, match="2 of its last 2 verdicts are errors"):
        guard_of().evaluated(evaluation(ERROR, 2))
    guard_of().evaluated(evaluation(BY_PLACE, 15))
    guard_of().evaluated(evaluation(TIE, 100))  # the start against itself may well be a tie
    guard_of().evaluated(evaluation(BY_PLACE, 100, step=8))


def test_the_message_names_the_problem_and_the_fix() -> None:
    assert watch(guard_of(window=4, max_errors=0.25), [FIRST, ERROR, SECOND, ERROR]) == (
        "judge: 2 of its last 4 verdicts are errors, more than judging.max_errors (0.25) allows. "
        "The last one: no room"
    )
    said = watch(guard_of(window=4), [BIASED] * 4)
    assert said is not None and said.startswith(
        "judge: 4 of its last 4 verdicts, more than judging.max_same_outcome (0.95) allows, were about"
    )
    assert "prefloop judge" in said


def test_the_guard_can_be_switched_off() -> None:
    assert watch(guard_of(window=0), [ERROR] * 500) is None
    assert watch(guard_of(window=4, max_errors=1.0), [ERROR] * 500) is None
    assert watch(guard_of(window=4, max_same_outcome=1.0), [TIE] * 500) is None
    assert watch(guard_of(window=4, max_same_outcome=1.0), [FIRST] * 500) is None


def test_the_guard_s_settings_are_loaded_and_checked() -> None:
    judging = {"window": 50, "max_errors": 0.2, "max_same_outcome": 0.8}
    assert load_config({"model": "m", "prompts": "p", "judging": judging}).judging == JudgingConfig(**judging)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"judging\.max_errors: must be <= 1, not 50"):
        load_config({"model": "m", "prompts": "p", "judging": {"max_errors": 50}})


def test_a_person_s_verdicts_are_not_looked_at() -> None:
    human = load_config({"model": "m", "prompts": "p", "judge": "human"}).judge
    assert watch(guard_of(judge=human), [FIRST] * 500) is None


@define
class Says:
    """A judge that gives one verdict whatever it is asked."""

    verdict: Verdict

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [self.verdict] * len(pairs)


def train_with(judge: object, tmp_path: Path, model_folder: Any, iters: int, **judging: Any) -> Any:
    from prefloop.runs.training import train

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"prompt": "Say {i}."}}\n' for i in range(8)), "utf-8")
    config = load_config(
        {
            "model": str(model_folder("qwen3")),
            "prompts": str(prompts),
            "judge": "human",
            "sampler": {"use": "policy", "max_completion_length": 4, "temperature": 1.0},
            "training": {"batch_size": 2, "iters": iters},
            "evaluation": {"held_out": 0},
            "judging": judging,
            "output": {"path": str(tmp_path / "run"), "report": False},
        }
    )
    return train(evolve(config, judge=judge))


@pytest.mark.parametrize(("verdict", "words"), [(ERROR, "are errors"), (BIASED, "contradicted itself")])
def test_a_run_whose_judge_fails_the_guard_stops(
    verdict: Verdict, words: str, tmp_path: Path, model_folder: Any
) -> None:
    run = train_with(Says(verdict), tmp_path, model_folder, iters=20, window=4)
    assert run.status == "failed"
    assert words in run.manifest["reason"]
    assert run.summary["steps"] < 5
    judged = (tmp_path / "run" / "judgements.jsonl").read_text("utf-8")
    assert len(judged.splitlines()) >= 4


@pytest.mark.parametrize(
    ("verdict", "steps", "words"),
    [
        (ERROR, 8, "are errors"),
        (BY_PLACE, 8, "contradicted itself"),
        (TIE, 8, "are ties"),
        (TIE, 1, "nothing was learnt"),
    ],
)
def test_a_run_shorter_than_the_window_does_not_end_well(
    verdict: Verdict, steps: int, words: str, tmp_path: Path, model_folder: Any
) -> None:
    run = train_with(Says(verdict), tmp_path, model_folder, iters=steps)
    assert run.status == "failed"
    assert words in run.manifest["reason"]
