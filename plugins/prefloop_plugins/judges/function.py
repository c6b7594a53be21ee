"""The `function` judge: any Python function that compares two answers, or that scores one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from attrs import Attribute, Factory, evolve, field, frozen
from attrs.validators import ge, gt, optional

from prefloop import BaseJudge, Judge, Pair, Prompt, UserError, Verdict
from prefloop.errors import said_of
from prefloop_plugins.judges.calling import Calling, Function
from prefloop_plugins.judges.importing import file_of, find
from prefloop_plugins.judges.returned import as_place, as_score, as_verdict, failed


def _a_number(_: Any, __: Attribute[Any], value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value}.")


@frozen
class Weighted:
    """A function that scores an answer, and what its score counts for."""

    shorthand: ClassVar[str] = "function"

    function: str | Function = field(metadata={"help": "module:function, as for score."})
    weight: float = field(
        default=1.0, validator=_a_number, metadata={"help": "Its score is multiplied by this."}
    )


def _as_weighted(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return tuple(one if isinstance(one, Weighted) else Weighted(one) for one in value)


def _counts(_: Any, attribute: Attribute[Any], value: Any) -> None:
    if isinstance(value, tuple) and not any(one.weight for one in value):
        raise ValueError(f"'{attribute.name}' needs at least one function with a weight that is not 0.")


def _callings(judge: FunctionJudge) -> tuple[Calling, ...]:
    """How the functions that were given are called, imported where they were given by name."""
    if (judge.call is None) == (judge.score is None):
        raise UserError("the function judge needs 'call' or 'score', exactly one of the two.")
    return tuple(_calling(*row, pairwise=judge.score is None) for row in judge.given.items())


def _calling(key: str, given: Any, *, pairwise: bool) -> Calling:
    function = find(key, given) if isinstance(given, str) else given
    if pairwise and isinstance(function, Judge):  # a judge of TRL's form, or its class
        with said_of(key):
            function = _judge_of(function)
    if not callable(function):
        raise UserError(f"{key}: {given!r} is not a function: give 'module:function'.")
    with said_of(key):
        return Calling.of(function, pairwise=pairwise)


def _judge_of(judge: Any) -> Any:
    try:
        return (judge() if isinstance(judge, type) else judge).judge
    except Exception as error:
        raise UserError(f"{judge.__name__}() cannot be made: {type(error).__name__}: {error}.") from error


@frozen
class FunctionJudge(BaseJudge):
    """Calls functions of one's own; files in the current folder can be named.

    `call` compares two answers: it gets ``(prompt, first, second)`` as texts and returns True or False (is
    the first better?), a float probability, None (no opinion) or a `Verdict`. `score` gets ``(prompt,
    completion)`` and returns a number; several functions are added up by their weights. Functions may also
    name what they want, take whole batches, and be coroutine functions: see `calling`. Whatever else a
    function returns or raises is an error verdict, never a label. A run writes each verdict down before it
    asks for the next, and those of a batch together.

    Raises `UserError` where a function cannot be imported, or cannot be called with what there is.
    """

    call: str | Function | None = field(
        default=None,
        metadata={"help": "module:function of (prompt, first, second): is the first better?"},
    )
    score: str | Function | tuple[Weighted, ...] | None = field(
        default=None,
        converter=_as_weighted,
        validator=_counts,
        metadata={
            "help": "module:function of (prompt, completion): a number, higher is better. Or several, each "
            "as {function: module:function, weight: 1.0}, whose scores are added."
        },
    )
    temperature: float = field(
        default=1.0,
        validator=gt(0),
        metadata={"help": "With 'score': P(first is better) = sigmoid(difference / temperature)."},
    )
    batch_size: int | None = field(
        default=None,
        validator=optional(ge(1)),
        metadata={
            "identity": False,
            "help": "Pairs in a call of a function of whole batches, or asked about at once of one "
            "with async; null is all of a step.",
        },
    )
    _callings: tuple[Calling, ...] = field(
        init=False, default=Factory(_callings, takes_self=True), repr=False, eq=False
    )

    @property
    def given(self) -> dict[str, str | Function | None]:
        """The functions by the key that names them."""
        if self.score is None:
            return {"call": self.call}
        several = isinstance(self.score, tuple)
        return {f"score.{i}" if several else "score": one.function for i, one in enumerate(self.scorers)}

    @property
    def scorers(self) -> tuple[Weighted, ...]:
        """The functions that score one answer; none where one compares two."""
        if self.score is None or isinstance(self.score, tuple):
            return self.score or ()
        return (Weighted(self.score),)

    @property
    def symmetric(self) -> bool:
        """A function that scores one answer cannot know its place."""
        return self.score is not None

    @property
    def pairs_per_call(self) -> int | None:
        """One, so that its verdict is written down, unless a function takes more."""
        return self.batch_size if any(one.batch or one.waits for one in self._callings) else 1

    def depends_on(self) -> list[str]:
        """The files of functions that were given by name."""
        both = zip(self.given.values(), self._callings, strict=True)
        named = [one for name, one in both if isinstance(name, str)]
        return list(dict.fromkeys(filter(None, (file_of(one.function) for one in named))))

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where a function wants a column that the prompts do not have."""
        for key, one in zip(self.given, self._callings, strict=True):
            with said_of(key):
                one.check(prompts)

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        begun = [one.begin(pairs) for one in self._callings]  # so that they wait together
        values = [wait() for wait in begun]
        if self.score is None:
            return [self._compared(value) for value in values[0]]
        halves = [[(own[2 * i], own[2 * i + 1]) for own in values] for i in range(len(pairs))]
        return [self._scored(scores) for scores in halves]

    def _compared(self, value: Any) -> Verdict:
        if isinstance(value, Exception):
            return failed(value)
        try:
            return as_place(value) if self._callings[0].batch else as_verdict(value)
        except TypeError as error:
            return failed(error)

    def _scored(self, scores: Sequence[tuple[Any, Any]]) -> Verdict:
        """The verdict of what each function gave the first answer and the second.

        A function of batches gives None where it does not apply, and then says nothing about the pair.
        """
        sums, said = [0.0, 0.0], []
        for one, own, (a, b) in zip(self._callings, self.scorers, scores, strict=True):
            name = one.written.partition("(")[0]
            try:
                if one.batch and (a is None or b is None):
                    said.append(f"{name} does not apply")
                    continue
                both = [as_score(_raised(value)) for value in (a, b)]
            except Exception as error:
                return failed(error, name if len(scores) > 1 else "")
            sums = [total + own.weight * value for total, value in zip(sums, both, strict=True)]
            said.append(f"{name} {both[0]:g} and {both[1]:g}")
        reason = "; ".join(said)
        if all(text.endswith("does not apply") for text in said):
            return Verdict.abstain(reason)
        verdict = Verdict.from_scores(*sums, temperature=self.temperature)
        return evolve(verdict, reason=reason) if len(scores) > 1 else verdict


def _raised(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value
