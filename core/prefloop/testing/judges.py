"""What every judge must do."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

from prefloop.config.options import options_of
from prefloop.errors import StopRun
from prefloop.testing import samples
from prefloop.testing.running import note, skip
from prefloop.testing.suite import ComponentSuite
from prefloop.types import Pair, Status, Verdict

TOLERANCE = 1e-3
"""How far two probabilities may lie apart and still be the same: batches of a model round differently."""


class JudgeSuite(ComponentSuite):
    """Tests of a judge. One whose class says ``symmetric = True`` gives p as 1 - p for swapped answers.

    `pairs` may be overridden for a judge that wants prompts of another sort, such as ones with fields.
    """

    kind: ClassVar[str] = "judge"
    pairs: Sequence[Pair] = samples.PAIRS

    @classmethod
    def setup_class(cls) -> None:
        """Prepare the judge, as a run does; a person is not asked."""
        prepare = getattr(getattr(cls, "component", None), "prepare", None)
        if prepare and not getattr(cls.component, "interactive", False):
            prepare()

    @classmethod
    def teardown_class(cls) -> None:
        close = getattr(getattr(cls, "component", None), "close", None)
        if close:
            close()

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """The judge's answer, whatever it is; an exception fails the test."""
        if getattr(self.component, "interactive", False):
            skip("a person answers, who is not asked here")
        try:
            verdicts: list[Verdict] = self.component.judge(pairs)
        except StopRun:
            raise
        except Exception as error:
            raise AssertionError(
                f"the judge raised {type(error).__name__} ({error}): one such pair would end a whole run; "
                "return Verdict.error('why') for it, which is counted and carries no weight."
            ) from error
        return verdicts

    def test_one_verdict_per_pair(self) -> None:
        verdicts = self.judge(list(self.pairs))
        assert isinstance(verdicts, Sequence), (
            f"judge() returned a {type(verdicts).__name__}, not a list of verdicts: a run ends at its first "
            "step."
        )
        assert len(verdicts) == len(self.pairs), (
            f"judge() gave {len(verdicts)} verdicts for {len(self.pairs)} pairs: nobody knows which verdict "
            "belongs to which pair, and a run ends at its first step."
        )
        strangers = {type(v).__name__ for v in verdicts if not isinstance(v, Verdict)}
        assert not strangers, (
            f"judge() gave {', '.join(sorted(strangers))} instead of Verdict: a run ends at its first step."
        )

    def test_no_pairs(self) -> None:
        verdicts = self.judge([])
        assert list(verdicts) == [], f"judge([]) gave {verdicts!r}: no pairs have no verdicts."

    def test_verdicts_are_valid(self) -> None:
        for verdict in self.judge(list(self.pairs)):
            probability = verdict.probability
            assert isinstance(probability, float | int) and 0 <= probability <= 1, (
                f"a verdict's probability is {probability!r} ({type(probability).__name__}), not a float "
                "from 0 to 1: the ledger of judgements could not be written."
            )
            assert verdict.status in get_args(Status), (
                f"a verdict's status is {verdict.status!r}, which is none of {', '.join(get_args(Status))}: "
                "the pair would be counted nowhere."
            )

    def test_ordinary_pairs_are_not_all_errors(self) -> None:
        verdicts = self.judge(list(self.pairs))
        reasons = {str(v.reason) for v in verdicts if v.status == "error"}
        failed = bool(verdicts) and all(v.status == "error" for v in verdicts)
        assert not failed, (
            f"every verdict on ordinary pairs is an error ({'; '.join(sorted(reasons))}): a run would learn "
            "nothing. If it needs other pairs, set `pairs` in the test class."
        )

    def test_a_pair_alone_as_in_a_batch(self) -> None:
        together = self.judge(list(self.pairs))
        for i, (pair, verdict) in enumerate(zip(self.pairs, together, strict=False)):
            alone = self.judge([pair])[0]
            assert _same(alone, verdict), (
                f"pair {i} gets {_said(verdict)} among {len(self.pairs)} pairs and {_said(alone)} alone: "
                "a pair's label would depend on training.batch_size or chance, and no run could be repeated."
            )

    def test_swapped_answers(self) -> None:
        """Asserted where the judge claims to be symmetric, reported where it does not."""
        verdicts = self.judge(list(self.pairs))
        swapped = self.judge([Pair(p.prompt, p.second, p.first) for p in self.pairs])
        gaps = [abs(a.probability - (1 - b.probability)) for a, b in zip(verdicts, swapped, strict=True)]
        moved = [gap for gap in gaps if gap > TOLERANCE]
        if self.claims("symmetric"):
            assert not moved, (
                f"the judge says `symmetric = True`, but swapping the answers moves {len(moved)} of "
                f"{len(gaps)} probabilities, by up to {max(moved)}: it favours a position, and the policy "
                "would learn from that."
            )
        elif moved:
            note(
                f"swapping the answers moves {len(moved)} of {len(gaps)} probabilities, by up to "
                f"{max(moved):.3f}: the judge favours a position."
            )

    def test_changes_nothing(self) -> None:
        given, options = list(self.pairs), self._options()
        before = copy.deepcopy(given)
        self.judge(given)
        assert given == before, (
            "the judge changed the pairs that it was given: the run would train on, and write into its "
            "ledger, something else than was sampled."
        )
        assert self._options() == options, (
            "the judge changed its own options while judging: a resumed run would judge by other ones."
        )

    def test_odd_answers_get_verdicts(self) -> None:
        verdicts = self.judge(list(samples.ODD_PAIRS))
        assert len(verdicts) == len(samples.ODD_PAIRS), (
            f"judge() gave {len(verdicts)} verdicts for {len(samples.ODD_PAIRS)} odd pairs (empty, equal, "
            "long, with special characters): a policy writes such answers, and the run would end there."
        )

    def test_other_ways_of_asking_agree(self) -> None:
        """``answers`` and ``submit``, where the judge has them, say what ``judge`` says."""
        verdicts = self.judge(list(self.pairs))
        others: dict[str, list[Verdict]] = {}
        if hasattr(self.component, "answers"):
            told = dict(self.component.answers(list(self.pairs)))
            others["answers"] = [told[place] for place in sorted(told)]
        if hasattr(self.component, "submit"):
            others["submit"] = self.component.submit(list(self.pairs)).result()
        if not others:
            skip("the judge has neither answers nor submit")
        for name, given in others.items():
            same = len(given) == len(verdicts) and all(map(_same, given, verdicts))
            assert same, (
                f"{name}() gives other verdicts than judge(): the labels that a run learns from would depend "
                "on which of the two it uses."
            )

    def _options(self) -> dict[str, Any]:
        return {name: copy.copy(getattr(self.component, name)) for name in options_of(self.component_class)}


def _same(a: Verdict, b: Verdict) -> bool:
    return a.status == b.status and abs(a.probability - b.probability) <= TOLERANCE


def _said(verdict: Verdict) -> str:
    return f"{verdict.probability:.3f} ({verdict.status})"
