"""The `rule` judge: answers are scored by patterns and lengths written in the configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from attrs import Attribute, field, frozen
from attrs.validators import gt, in_, instance_of, optional

from prefloop import BaseJudge, Pair, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

Patterns = tuple[str, ...]


def _as_patterns(value: Patterns | list[str]) -> Patterns:
    return tuple(value) if isinstance(value, list) else value


def _are_patterns(_: Any, attribute: Attribute[Any], value: Patterns) -> None:
    if not isinstance(value, tuple):
        raise ValueError(f"'{attribute.name}' must be a list of regular expressions: {value!r}")
    for i, pattern in enumerate(value):
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"'{attribute.name}[{i}]' is not a regular expression: {pattern!r}: {error}"
            ) from error


@frozen
class RuleJudge(BaseJudge):
    """Scores an answer by the patterns found in it; ``P(first is better) = sigmoid((a - b) / T)``.

    The score is the number of `prefer` patterns that occur minus the number of `avoid` patterns that
    do, each counted once. Where scores are equal, `length` decides as one more pattern would.
    """

    symmetric: ClassVar[bool] = True

    prefer: Patterns = field(
        default=(),
        converter=_as_patterns,
        validator=_are_patterns,
        metadata={"help": "Regular expressions; each one found in an answer adds a point."},
    )
    avoid: Patterns = field(
        default=(),
        converter=_as_patterns,
        validator=_are_patterns,
        metadata={"help": "Regular expressions; each one found in an answer takes a point."},
    )
    length: Literal["shorter", "longer"] | None = field(
        default=None,
        validator=optional(in_(("shorter", "longer"))),
        metadata={"help": "Which answer wins where the points are equal, by characters."},
    )
    ignore_case: bool = field(
        default=True,
        validator=instance_of(bool),
        metadata={"help": "Whether patterns match capital and small letters alike."},
    )
    temperature: float = field(
        default=1.0,
        validator=gt(0),
        metadata={"help": "How many points make a clear win: higher is less certain."},
    )

    def __attrs_post_init__(self) -> None:
        if not (self.prefer or self.avoid or self.length):
            raise ValueError("a rule judge needs at least one rule: set 'prefer', 'avoid' or 'length'")

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        return [self._compare(pair.first.text, pair.second.text) for pair in pairs]

    def _compare(self, first: str, second: str) -> Verdict:
        scores = self._points(first), self._points(second)
        if scores[0] == scores[1] and self.length:
            sign = 1 if self.length == "longer" else -1
            longer = (len(first) > len(second)) - (len(first) < len(second))
            scores = (sign * longer, 0)
        return Verdict.from_scores(*scores, temperature=self.temperature)

    def _points(self, text: str) -> int:
        return self._found(self.prefer, text) - self._found(self.avoid, text)

    def _found(self, patterns: Patterns, text: str) -> int:
        flags = re.IGNORECASE if self.ignore_case else 0
        return sum(re.search(pattern, text, flags) is not None for pattern in patterns)
