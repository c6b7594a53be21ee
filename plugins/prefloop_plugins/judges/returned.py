"""What a function of somebody's own may return, as scores and verdicts; anything else is an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from prefloop import Verdict
from prefloop.text import one_line


def as_verdict(value: Any) -> Verdict:
    """Whether the first answer is better. Raises `TypeError` for what says nothing about it."""
    value = plain(value)
    if isinstance(value, Verdict):
        return value
    if value is None:
        return Verdict.abstain()
    if isinstance(value, bool):
        return Verdict(float(value))
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return Verdict(value)
    raise TypeError(f"it returned {_shown(value)}, not True, False, a float from 0 to 1, None or a Verdict")


def as_place(value: Any) -> Verdict:
    """The same of a function that judges many pairs, whose whole numbers are TRL's: the place of the better
    answer, 0 or 1, or -1 where there is none to tell.
    """
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        return as_verdict(value)
    if value == -1:
        return Verdict.error("the judge function returned -1: it could not tell")
    if value in (0, 1):
        return Verdict(1.0 - int(value))
    raise TypeError(f"it returned {_shown(value)}, not 0 or 1, the place of the better answer, or -1")


def as_score(value: Any) -> float:
    """A number. Raises `TypeError` for what is none, or is not finite."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise TypeError(f"it returned {_shown(value)}, not a finite number")
    return float(value)


def as_list(value: Any, wanted: int, of: str) -> list[Any]:
    """What was returned for so many. Raises `TypeError` or `ValueError` where it is not one for each."""
    value = value.tolist() if hasattr(value, "tolist") else value  # an array of numpy, mlx or torch
    if not isinstance(value, list | tuple):
        raise TypeError(f"it returned {_shown(value)}, not a list with a value for each of {wanted} {of}")
    if len(value) != wanted:
        raise ValueError(f"it returned {len(value)} values for {wanted} {of}")
    return list(value)


def failed(error: BaseException, name: str = "") -> Verdict:
    """The verdict where a function failed; `name` tells which of several."""
    which = f"the judge function {name}".rstrip()
    return Verdict.error(f"{which} failed: {type(error).__name__}: {_in_words(error)}")


def plain(value: Any) -> Any:
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
