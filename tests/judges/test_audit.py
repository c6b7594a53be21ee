"""What an audit says: against counts by hand, against a search, and in simulated runs of known truth."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import comb

import pytest
from attrs import frozen

from prefloop import BaseJudge, Completion, Judgement, Pair, Prompt, Verdict
from prefloop.evaluation.stats import wilson
from prefloop.runs.records import JudgeIdentity
from prefloop.types import PERSON
from prefloop_plugins.judges.cascade import CascadeJudge
from prefloop_plugins.judging.audit import Audit, audit_of, bounds
from prefloop_plugins.report.audited import at_most, person_and_judge
from prefloop_plugins.report.records import RunFiles

JUDGE = JudgeIdentity("prefloop:cascade", "1", "")
CHEAP = Verdict(0.9, by="members.0")


def row(place: int, verdict: Verdict, step: int = 1) -> Judgement:
    return Judgement(
        step, Pair(Prompt((), str(place)), Completion((), "x"), Completion((), "y")), verdict, JUDGE
    )


def said(verdict: Verdict, audit: float | None = 0.5) -> Verdict:
    return Verdict(
        verdict.probability, verdict.status, by=PERSON, earlier=CHEAP if audit else Verdict.tie(), audit=audit
    )


def test_an_audit_by_hand() -> None:
    """Twelve labels of the judge; six audits: three confirm, one reverses, one ties, one is skipped."""
    drawn = [Verdict(1.0)] * 3 + [Verdict(0.0), Verdict.tie(), Verdict.abstain()]
    verdicts = [CHEAP] * 6 + [said(v) for v in drawn] + [said(Verdict(0.0), None)]
    found = audit_of([row(i, verdict) for i, verdict in enumerate(verdicts)])
    assert found is not None
    assert (found.asked, found.audited, found.spent, found.later) == (7, 6, None, 0)
    assert found.right is not None
    assert (found.right.rate, found.right.pairs) == (3 / 4, 4)
    assert found.wrong is not None
    # A fifth of the six labels that were trusted, of eleven that were used: six, four audits and one doubt.
    assert (found.wrong.rate, found.wrong.pairs) == (pytest.approx(1 / 5 * 6 / 11), 11)
    low, high = bounds(1, 5, 12)
    assert (found.wrong.low, found.wrong.high) == ((low - 1) / 11, min(high - 1, 6) / 11)


def test_what_came_after_the_budget_is_in_no_estimate() -> None:
    before = [row(0, CHEAP), row(1, said(Verdict(1.0))), row(2, said(Verdict(1.0)), step=2)]
    later = [row(i, CHEAP, step=3) for i in range(3, 9)]
    found = audit_of([*before, *later], budget=2)
    assert found is not None
    assert found.wrong is not None
    assert (found.spent, found.later, found.wrong.pairs) == (2, 6, 3)


def test_without_a_person_or_without_an_audit_there_is_no_estimate() -> None:
    assert audit_of([row(0, CHEAP)]) is None
    found = audit_of([row(0, CHEAP), row(1, said(Verdict(1.0), None))])
    assert found == Audit(asked=1, audited=0, spent=None, right=None, wrong=None, later=0)


@pytest.mark.parametrize(("drawn", "of"), [(1, 7), (3, 10), (5, 12), (12, 12), (8, 40)])
def test_the_bounds_against_exact_fractions(drawn: int, of: int) -> None:
    for found in range(drawn + 1):
        kept = [
            marked
            for marked in range(of + 1)
            if _tail(range(found + 1), drawn, marked, of) > 0.025
            and _tail(range(found, drawn + 1), drawn, marked, of) > 0.025
        ]
        assert bounds(found, drawn, of) == (min(kept), max(kept))


def _tail(counts: range, drawn: int, marked: int, of: int) -> float:
    ways = sum(comb(marked, k) * comb(of - marked, drawn - k) for k in counts)
    return ways / comb(of, drawn)


def test_the_bounds_hold_for_every_sample_there_is() -> None:
    """Of all samples of four from nine, at least 95 % have bounds that hold, whatever the truth."""
    for marked in range(10):
        samples = list(combinations(range(9), 4))
        held = [sum(i < marked for i in sample) for sample in samples]
        covered = [low <= marked <= high for low, high in (bounds(found, 4, 9) for found in held)]
        assert sum(covered) >= 0.95 * len(samples)


@frozen
class Slips(BaseJudge):
    """A judge of pairs whose first answer is better: wrong with a chance, in doubt about a fifth."""

    error: float
    seed: int

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(self.probability(pair.prompt.text)) for pair in pairs]

    def probability(self, prompt: str) -> float:
        drawn = random.Random(f"{self.seed} {prompt}")
        doubtful, wrong = drawn.random() < 0.2, drawn.random() < self.error
        sure = 0.55 if doubtful else 0.9
        return 1 - sure if wrong else sure


@frozen
class Knows(BaseJudge):
    interactive = True

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return [Verdict(1.0) for _ in pairs]

    def answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        yield from enumerate(self.judge(pairs))


def simulated(error: float, share: float, pairs: int, seed: int) -> tuple[Audit, float, float]:
    """A run's audit, how often its judge is right in the frame, and what share of the labels is wrong."""
    judge = CascadeJudge([Slips(error, seed), Knows()], budget_per_step=1, audit=share, seed=seed)
    rows: list[Judgement] = []
    for step in range(pairs // 10):
        asked = [row(10 * step + i, CHEAP).pair for i in range(10)]
        verdicts = judge.judge(asked)
        judge.learn(asked, verdicts)
        rows += [Judgement(step, *both, JUDGE) for both in zip(asked, verdicts, strict=True)]
    found = audit_of(rows)
    assert found is not None
    frame = [r.verdict.earlier or r.verdict for r in rows if r.verdict.by != PERSON or r.verdict.audit]
    right = sum(bool(v.prefers_first) for v in frame) / len(frame)
    return found, right, sum(not r.verdict.prefers_first for r in rows) / len(rows)


@pytest.mark.parametrize("error", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(
    ("share", "pairs"),
    [
        (0.05, 100),
        (0.2, 100),
        pytest.param(0.05, 400, marks=pytest.mark.slow),
        pytest.param(0.2, 400, marks=pytest.mark.slow),
    ],
)
def test_the_interval_holds_in_90_of_100_runs(error: float, share: float, pairs: int) -> None:
    runs = [simulated(error, share, pairs, seed) for seed in range(100)]
    wrong = [(audit.wrong, truth) for audit, _, truth in runs if audit.wrong]
    right = [(audit.right, truth) for audit, truth, _ in runs if audit.right]
    assert len(wrong) == len(right) >= 98  # of few pairs the coin may draw none
    for estimates in (wrong, right):
        assert sum(rate.low - 1e-9 <= truth <= rate.high + 1e-9 for rate, truth in estimates) >= 90
        mean = sum(rate.rate - truth for rate, truth in estimates) / len(estimates)
        spread = sum((rate.rate - truth - mean) ** 2 for rate, truth in estimates) ** 0.5 / len(estimates)
        assert abs(mean) < 4 * spread + 1e-9, "the estimate is biased"


def test_the_difference_of_two_shares_is_newcombes() -> None:
    """The first example of his paper: 56 of 70 and 48 of 80."""
    assert at_most(wilson(56, 70), wilson(48, 80)) == pytest.approx(-0.0524, abs=5e-5)
    assert at_most(wilson(48, 80), wilson(56, 70)) == pytest.approx(0.3339, abs=5e-5)


@pytest.mark.parametrize(("confirmed", "level"), [(20, "fine"), (17, "fine"), (10, "warning")])
def test_a_report_warns_where_the_person_turns_away_from_the_judge(confirmed: int, level: str) -> None:
    drawn = [1.0] * 19 + [0.0] + [1.0] * confirmed + [0.0] * (20 - confirmed)
    judged = [row(i, said(Verdict(p)), step=i) for i, p in enumerate(drawn)]
    found = person_and_judge(RunFiles("run", judged=tuple(judged)))
    assert found is not None
    assert found.level == level
    assert f"{confirmed / 20:.0%}" in found.text
    assert person_and_judge(RunFiles("run", judged=(row(0, CHEAP), row(1, said(Verdict(1.0), None))))) is None
