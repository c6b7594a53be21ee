"""The `label` judge: what a preference data set says of its own pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import frozen

from prefloop import BaseJudge, Pair, UserError, Verdict
from prefloop_plugins.judging.pair_files import LabelledPair, labelled_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence


@frozen
class LabelJudge(BaseJudge):
    """Reads the label in the row that a pair comes from, in whichever order its answers are shown.

    A row with ``chosen`` and ``rejected`` is its own label; one with ``first`` and ``second`` has one in
    ``label``, or the judge abstains. A ``probability`` beside ``chosen`` is the verdict's. Answers that are
    not those of the row get an error.
    """

    symmetric: ClassVar[bool] = True
    evaluates: ClassVar[bool] = False

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: Pair) -> Verdict:
        try:
            (row,) = labelled_pairs([pair.prompt])
        except UserError as error:
            return Verdict.error(f"the prompt comes from no labelled pair: {error}")
        shown, filed = (_texts(p) for p in (pair, row.pair))
        if shown not in (filed, filed[::-1]):
            return Verdict.error("the answers are not those of the data set; use the sampler 'dataset'")
        return _said(row, turned=shown != filed)


def _texts(pair: Pair) -> tuple[str, str]:
    return pair.first.whole, pair.second.whole


def _said(row: LabelledPair, *, turned: bool) -> Verdict:
    if row.label is None:
        return Verdict.abstain("the data set has no label for this pair")
    if row.label == "tie" or row.pair.first.text == row.pair.second.text:
        return Verdict.tie()
    first_wins = (row.label == "first") is not turned
    return Verdict(row.probability if first_wins else 1.0 - row.probability)
