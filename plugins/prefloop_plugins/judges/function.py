"""The `function` judge: any Python function that compares two answers, or that scores one."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrs import Factory, field, frozen
from attrs.validators import gt

from prefloop import BaseJudge, Pair, UserError, Verdict
from prefloop.beginning import folders
from prefloop.errors import StopRun, did_you_mean
from prefloop.text import one_line

if TYPE_CHECKING:
    from types import ModuleType

Function = Callable[..., Any]


def _resolve(judge: FunctionJudge) -> Function:
    """The one function that was given, imported where it was given by name."""
    if (judge.call is None) == (judge.score is None):
        raise UserError("the function judge needs 'call' or 'score', exactly one of the two.")
    option, given = ("call", judge.call) if judge.score is None else ("score", judge.score)
    function = _import(option, given) if isinstance(given, str) else given
    if not callable(function):
        raise UserError(f"{option}: {given!r} is not a function: give 'module:function'.")
    return function


@frozen
class FunctionJudge(BaseJudge):
    """Calls a function of one's own; files in the current folder can be named.

    `call` gets ``(prompt, first, second)`` as texts and returns True or False (is the first better?),
    a float probability, None (no opinion) or a `Verdict`. `score` gets ``(prompt, completion)`` and
    returns a number. Whatever else a function returns or raises is an error verdict, never a label. A run
    writes each verdict down before it asks for the next.

    Raises `UserError` where the function cannot be imported.
    """

    pairs_per_call: ClassVar[int] = 1

    call: str | Function | None = field(
        default=None,
        metadata={"help": "module:function of (prompt, first, second): is the first better?"},
    )
    score: str | Function | None = field(
        default=None,
        metadata={"help": "module:function of (prompt, completion): a number, higher is better."},
    )
    temperature: float = field(
        default=1.0,
        validator=gt(0),
        metadata={"help": "With 'score': P(first is better) = sigmoid(difference / temperature)."},
    )
    _function: Function = field(init=False, default=Factory(_resolve, takes_self=True), repr=False, eq=False)

    @property
    def symmetric(self) -> bool:
        """A function that scores one answer cannot know its place."""
        return self.score is not None

    def depends_on(self) -> list[str]:
        """The file of a function that was given by name."""
        given = self.call or self.score
        module = sys.modules.get(self._function.__module__) if isinstance(given, str) else None
        file = getattr(module, "__file__", None)
        return [file] if file else []

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """One verdict per pair."""
        return [self._verdict(pair) for pair in pairs]

    def _verdict(self, pair: Pair) -> Verdict:
        prompt, first, second = pair.prompt.text, pair.first.text, pair.second.text
        try:
            if self.score is None:
                return _as_verdict(self._function(prompt, first, second))
            scores = (_as_score(self._function(prompt, text)) for text in (first, second))
            return Verdict.from_scores(*scores, temperature=self.temperature)
        except (StopRun, UserError):
            raise
        except Exception as error:
            return Verdict.error(f"the judge function failed: {type(error).__name__}: {_in_words(error)}")


def _as_verdict(value: Any) -> Verdict:
    value = _plain(value)
    if isinstance(value, Verdict):
        return value
    if value is None:
        return Verdict.abstain()
    if isinstance(value, bool):
        return Verdict(float(value))
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return Verdict(value)
    raise TypeError(f"it returned {_shown(value)}, not True, False, a float from 0 to 1, None or a Verdict")


def _as_score(value: Any) -> float:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError(f"it returned {_shown(value)}, not a finite number")
    return float(value)


def _plain(value: Any) -> Any:
    """The Python value of an array library's scalar (numpy, mlx)."""
    return value.item() if getattr(value, "shape", None) == () else value


def _shown(value: Any) -> str:
    return f"{_in_words(value, repr, 60)} ({type(value).__name__})"


def _in_words(value: Any, form: Callable[[Any], str] = str, width: int = 300) -> str:
    """`value` on one line, be it a number of a million digits or an object that cannot be shown."""
    try:
        return one_line(form(value), width)
    except Exception:
        return "what cannot be shown as text"


def _import(option: str, name: str) -> Any:
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UserError(f"{option}: '{name}' is not of the form module:function.")
    found: Any = _module(option, module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UserError(_no_such_function(option, module_name, path)) from None
    return found


def _module(option: str, name: str) -> ModuleType:
    """Import a module, one that lies in the current folder too (installed ones come first)."""
    for folder in folders():
        if str(folder) not in sys.path and not ("" in sys.path and folder == Path.cwd()):
            sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"{option}: module '{name}' cannot be imported: {error}.") from error
        beside = {path.stem for folder in folders() for path in folder.glob("*.py")}
        hint = did_you_mean(name, beside)
        raise UserError(
            f"{option}: there is no module '{name}', neither installed nor in "
            f"{' or in '.join(map(str, folders()))}." + (hint if "Did you mean" in hint else "")
        ) from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{option}: module '{name}' cannot be imported: {type(error).__name__}: {error}."
        ) from error


def _no_such_function(option: str, module_name: str, path: str) -> str:
    module = sys.modules[module_name]
    names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
    where = getattr(module, "__file__", None)
    return f"{option}: module '{module_name}' ({where}) has no function '{path}'.{did_you_mean(path, names)}"
