"""How a function of somebody's own is called. It is decided once, by the names of its parameters.

A function gets what it names: the prompt and what was answered, or a column of the data set. A parameter
``completions``, or ``completion_ids``, makes it one of whole batches, as reward functions of TRL and
mlx-lm-lora and TRL's pairwise judges are; any other is asked about one answer, or one pair, at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from attrs import frozen

from prefloop import Pair, Prompt, UserError
from prefloop.errors import StopRun, did_you_mean
from prefloop_plugins.judges.offered import BATCH, ONE, PAIR, Offer, Question, questions_of
from prefloop_plugins.judges.returned import as_list
from prefloop_plugins.judges.waiting import begin

Function = Callable[..., Any]


@frozen
class Calling:
    """A function, and what it gets."""

    function: Function
    written: str
    """Its name and parameters, for messages."""
    offer: Offer
    pairwise: bool
    """Whether it compares two answers rather than scoring one."""
    by_place: tuple[str, ...]
    """What it gets by position, having names of its own for it."""
    required: tuple[str, ...] = ()
    """The parameters besides that it cannot be called without."""
    optional: tuple[str, ...] = ()
    takes_all: bool = False
    """Whether it takes whatever there is, as ``**kwargs``."""
    waits: bool = False
    """Whether it is a coroutine function."""

    @classmethod
    def of(cls, function: Function, *, pairwise: bool) -> Calling:
        """Decide it. Raises `UserError` where it has neither the names nor the places for what there is."""
        offer, name = PAIR if pairwise else ONE, getattr(function, "__name__", type(function).__name__)
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):  # some builtins do not tell
            return cls(function, name, offer, pairwise, offer.by_place)
        parameters, kinds = list(signature.parameters.values()), inspect.Parameter
        named = [p for p in parameters if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
        if BATCH.named_by([p.name for p in named]):
            offer = BATCH
        written = f"{name}({', '.join(_without_types(p) for p in parameters)})"
        taken = _by_place(offer, parameters, {p.name for p in named})
        if taken is None:
            raise UserError(
                f"{written} cannot be called: {offer.what} has ({', '.join(offer.by_place)}), or names "
                f"what it wants, of {', '.join(offer.names)} and the columns of the prompts."
            )
        rest = [p for p in named if p not in parameters[: len(taken)]]
        return cls(
            function,
            written,
            offer,
            pairwise,
            taken,
            tuple(p.name for p in rest if p.default is p.empty),
            tuple(p.name for p in rest if p.default is not p.empty),
            any(p.kind is kinds.VAR_KEYWORD for p in parameters),
            any(map(inspect.iscoroutinefunction, (function, type(function).__call__))),
        )

    @property
    def batch(self) -> bool:
        """Whether it is asked about all pairs in one call."""
        return self.offer is BATCH

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raises `UserError` where no prompt has a column that the function needs."""
        columns = dict.fromkeys(name for prompt in prompts for name in prompt.fields)
        for name in self.required:
            if prompts and name not in self.offer.names and not self._column(name, columns):
                known = f"they have {', '.join(map(repr, columns))}" if columns else "they have no others"
                raise UserError(
                    f"{self.written} wants '{name}', and the prompts have no such column; {known}. Beside "
                    f"columns it can name {', '.join(self.offer.names)}."
                    + _guess(name, (*columns, *self.offer.names))
                )

    def begin(self, pairs: Sequence[Pair]) -> Callable[[], list[Any]]:
        """Ask about all pairs, and at once where it is a coroutine function. What is returned waits for the
        values, two for a pair where answers are scored alone; an exception stands in the place of a value.
        It raises `StopRun`, `UserError` and what would end the process.
        """
        questions = questions_of(pairs, pairwise=self.pairwise)
        together = [questions] if self.batch else [[question] for question in questions]
        calls = [self._call(each) for each in together if each]
        wait = begin(calls) if self.waits else partial(list, map(_now, calls))
        return lambda: self._values(_passing(wait()), len(questions))

    def _values(self, results: list[Any], wanted: int) -> list[Any]:
        if not self.batch or not wanted:
            return results
        try:
            (result,) = results
            of = "pairs" if self.pairwise else "completions"
            return [result] * wanted if isinstance(result, Exception) else as_list(result, wanted, of)
        except (TypeError, ValueError) as error:
            return [error] * wanted

    def _call(self, questions: Sequence[Question]) -> Callable[[], Any]:
        offered = self.offer.values(questions)
        given = [question.prompt.fields for question in questions]
        columns = dict.fromkeys(name for fields in given for name in fields)

        def value(column: str | None) -> Any:
            found = [fields.get(column) if column else None for fields in given]
            return found if self.batch else found[0]

        named = {name: value(name) for name in columns} | offered if self.takes_all else {}
        for name in (*self.required, *self.optional):
            column = self._column(name, columns)
            if name in offered:
                named[name] = offered[name]
            elif column or name in self.required:  # a row without the column has none, as in a table
                named[name] = value(column)
        places = [offered[name] for name in self.by_place]
        return partial(self.function, *places, **{n: v for n, v in named.items() if n not in self.by_place})

    def _column(self, name: str, columns: Collection[str]) -> str | None:
        """The column that a parameter stands for: of a batch, ``answers`` may be the column ``answer``."""
        spellings = (name, name.removesuffix("s")) if self.batch else (name,)
        return next((spelling for spelling in spellings if spelling in columns), None)


def _by_place(
    offer: Offer, parameters: Sequence[inspect.Parameter], named: Collection[str]
) -> tuple[str, ...] | None:
    """What a function gets by position, which is nothing where it names the answers; None where it cannot be
    called.
    """
    kinds = inspect.Parameter
    places = [p for p in parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    if offer.named_by(named):
        taken: tuple[str, ...] = ()
    elif any(p.kind is kinds.VAR_POSITIONAL for p in parameters) or len(places) >= len(offer.by_place):
        taken = offer.by_place
    elif any(p.kind is kinds.VAR_KEYWORD for p in parameters):
        taken = ()
    else:
        return None
    left = places[len(taken) :]
    return None if any(p.kind is kinds.POSITIONAL_ONLY and p.default is p.empty for p in left) else taken


def _without_types(parameter: inspect.Parameter) -> str:
    return str(parameter.replace(annotation=parameter.empty))


def _guess(name: str, known: Collection[str]) -> str:
    hint = did_you_mean(name, known)
    return hint if "Did you mean" in hint else ""


def _now(call: Callable[[], Any]) -> Any:
    try:
        result = call()
        return begin([lambda: result])()[0] if inspect.isawaitable(result) else result
    except Exception as error:
        return error


def _passing(results: list[Any]) -> list[Any]:
    """`results`, where none ends the run."""
    for result in results:
        if isinstance(result, StopRun | UserError) or (
            isinstance(result, BaseException) and not isinstance(result, Exception)
        ):
            raise result
    return results
