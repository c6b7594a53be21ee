"""What every judge must do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

from attrs import evolve

from prefloop.components import BaseJudge, Judge, adapt
from prefloop.config.options import options_of
from prefloop.errors import StopRun
from prefloop.types import PERSON, Pair, Status, Verdict
from prefloop_testing import samples
from prefloop_testing.suite import ComponentSuite, check_restoring, listed, note, skip

TOLERANCE = 1e-3
"""Two probabilities this close count as the same: batches of a model round differently."""


class JudgeSuite(ComponentSuite):
    """Tests of a judge. One whose class says ``symmetric = True`` gives p as 1 - p for swapped answers.

    A test class may set `pairs`, for a judge that wants other prompts, such as ones with fields.
    """

    kind: ClassVar[str] = "judge"
    pairs: Sequence[Pair] = samples.PAIRS

    @classmethod
    def setup_class(cls) -> None:
        """Prepare the judge, as a run does. A person is not asked."""
        judge = _judge_of(cls)
        if judge is not None and not judge.interactive:
            judge.prepare()

    @classmethod
    def teardown_class(cls) -> None:
        if (judge := _judge_of(cls)) is not None:
            judge.close()

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The judge's answer, whatever it is; an exception fails the test."""
        if self.claims("interactive"):
            skip("a person answers, who is not asked here")
        try:
            verdicts: list[Verdict] = self.component.judge(pairs)
        except StopRun:
            raise
        except Exception as error:
            raise AssertionError(
                f"the judge raised {type(error).__name__} ({error}): one such pair would end a whole run. "
                "Return Verdict.error('why') for it, which is counted and has no weight."
            ) from error
        return verdicts

    def test_one_verdict_per_pair(self) -> None:
        verdicts = self.judge(list(self.pairs))
        harm = "a run would end at its first step."
        assert isinstance(verdicts, Sequence), f"judge() gave a {type(verdicts).__name__}, not a list: {harm}"
        counts = f"{len(verdicts)} verdicts for {len(self.pairs)} pairs"
        assert len(verdicts) == len(self.pairs), f"judge() gave {counts}: {harm}"
        others = listed({type(v).__name__ for v in verdicts if not isinstance(v, Verdict)})
        assert not others, f"judge() gave {others} instead of Verdict: {harm}"

    def test_no_pairs(self) -> None:
        verdicts = self.judge([])
        assert list(verdicts) == [], f"judge([]) gave {verdicts!r}, not an empty list."

    def test_verdicts_are_valid(self) -> None:
        for verdict in self.judge(list(self.pairs)):
            probability = verdict.probability
            assert isinstance(probability, float | int) and 0 <= probability <= 1, (
                f"a verdict's probability is {probability!r} ({type(probability).__name__}), not a float "
                "from 0 to 1: the ledger of judgements could not be written."
            )
            assert verdict.status in get_args(Status), (
                f"a verdict's status is {verdict.status!r}, which is none of {listed(get_args(Status))}: no "
                "metric would count the pair."
            )

    def test_ordinary_pairs_are_not_all_errors(self) -> None:
        verdicts = self.judge(list(self.pairs))
        reasons = {str(v.reason) for v in verdicts if v.status == "error"}
        assert not verdicts or any(v.status != "error" for v in verdicts), (
            f"every verdict on ordinary pairs is an error ({'; '.join(sorted(reasons))}): a run would learn "
            "nothing. If the judge needs other pairs, set `pairs` in the test class."
        )

    def test_a_pair_alone_as_in_a_batch(self) -> None:
        together = self.judge(list(self.pairs))
        for i, (pair, verdict) in enumerate(zip(self.pairs, together, strict=False)):
            alone = self.judge([pair])[0]
            assert _same(alone, verdict), (
                f"pair {i} gets {_in_words(verdict)} among {len(self.pairs)} pairs and {_in_words(alone)} "
                "alone: its label would depend on training.batch_size or chance."
            )

    def test_swapped_answers(self) -> None:
        """Asserted where the judge claims to be symmetric, reported where it does not."""
        verdicts = self.judge(list(self.pairs))
        swapped = self.judge([pair.swapped() for pair in self.pairs])
        gaps = [abs(a.probability - (1 - b.probability)) for a, b in zip(verdicts, swapped, strict=True)]
        moved = [gap for gap in gaps if gap > TOLERANCE]
        if not moved:
            return
        count = f"{len(moved)} of {len(gaps)} probabilities"
        found = f"swapping the answers moves {count} by up to {max(moved):.3f}: the judge has position bias."
        assert not self.claims("symmetric"), f"the judge says `symmetric = True`, but {found}"
        note(found)

    def test_changes_nothing(self) -> None:
        given, options = list(self.pairs), self._options()
        before = copy.deepcopy(given)
        self.judge(given)
        assert given == before, (
            "the judge changed the pairs that it was given: a run would train on other pairs than it sampled."
        )
        assert self._options() == options, (
            "the judge changed its own options while judging: a resumed run would judge by other ones."
        )

    def test_odd_answers_get_verdicts(self) -> None:
        verdicts = self.judge(list(samples.ODD_PAIRS))
        assert len(verdicts) == len(samples.ODD_PAIRS), (
            f"judge() gave {len(verdicts)} verdicts for {len(samples.ODD_PAIRS)} odd pairs (empty, equal, "
            "long, with special characters): a policy may write such answers, and the run would end."
        )

    def test_other_ways_of_asking_agree(self) -> None:
        """``answers`` and ``submit``, where the judge has them, give what ``judge`` gives."""
        verdicts = self.judge(list(self.pairs))
        others: dict[str, list[Verdict]] = {}
        if self.claims("answers"):
            answered = dict(self.component.answers(list(self.pairs)))
            others["answers"] = [answered[place] for place in sorted(answered)]
        if self.claims("submit"):
            others["submit"] = self.component.submit(list(self.pairs)).result()
        if not others:
            skip("the judge has neither answers nor submit")
        for name, given in others.items():
            assert len(given) == len(verdicts) and all(map(_same, given, verdicts)), (
                f"{name}() gives other verdicts than judge(): labels would depend on which one a run calls."
            )

    def test_what_it_learns_is_in_its_state(self) -> None:
        """A judge that learns takes labels, ties and skips, or none, and its state holds what it knows."""
        judge = adapt(self.component, BaseJudge)
        if not any("learn" in vars(cls) for cls in self.component_class.__mro__ if cls is not BaseJudge):
            skip("the judge does not learn")
        verdicts = [evolve(samples.SAID[i % len(samples.SAID)], by=PERSON) for i in range(len(self.pairs))]
        for count in (0, len(self.pairs)):
            judge.learn(list(self.pairs[:count]), verdicts[:count])
        state, given = dict(judge.state()), self.judge(list(self.pairs))
        check_restoring(judge, state)
        assert all(map(_same, given, self.judge(list(self.pairs)))), (
            "restore(state()) changes the verdicts: a resumed run would judge otherwise than it would have."
        )

    def _options(self) -> dict[str, Any]:
        return {name: copy.copy(getattr(self.component, name)) for name in options_of(self.component_class)}


def _judge_of(suite: type[JudgeSuite]) -> BaseJudge | None:
    """The judge of a suite; None where `component` is a property of the test class."""
    component = getattr(suite, "component", None)
    return adapt(component, BaseJudge) if isinstance(component, Judge) else None


def _same(a: Verdict, b: Verdict) -> bool:
    return a.status == b.status and abs(a.probability - b.probability) <= TOLERANCE


def _in_words(verdict: Verdict) -> str:
    return f"{verdict.probability:.3f} ({verdict.status})"
