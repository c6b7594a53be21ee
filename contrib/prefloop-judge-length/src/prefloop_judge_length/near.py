"""The `near-length` judge: the answer whose length is nearer to a target is the better one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from attrs import field, frozen
from attrs.validators import ge, gt

from prefloop import BaseJudge, Completion, Pair, Verdict
from prefloop_judge_length.lengths import UNIT_HELP, Unit, is_unit, length


@frozen
class NearLength(BaseJudge):
    """``P(first is better) = sigmoid((|b - target| - |a - target|) / temperature)`` for lengths ``a``, ``b``.

    Answers equally far from the target are a tie.
    """

    symmetric: ClassVar[bool] = True

    target: int = field(
        default=200, validator=ge(0), metadata={"help": "The length that an answer should have."}
    )
    unit: Unit = field(default="characters", validator=is_unit, metadata={"help": UNIT_HELP})
    temperature: float = field(
        default=10.0,
        validator=gt(0.0),
        metadata={"help": "How much nearer makes a clear win, in units of length."},
    )

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        return [
            Verdict.from_scores(self._score(p.first), self._score(p.second), temperature=self.temperature)
            for p in pairs
        ]

    def _score(self, completion: Completion) -> float:
        return -abs(length(completion, self.unit) - self.target)
