"""The weight of a bonus: one number, or one per epoch, as prefloop's own bonuses take it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from attrs import Attribute

    from prefloop import Progress

T = TypeVar("T")
Alpha = float | tuple[float, ...]

ALPHA_HELP = "Weight of the bonus: a number, or a list with one per epoch, the last held to the end."


def as_alpha(value: Alpha | list[float]) -> Alpha:
    """A list (as YAML gives it) as a tuple, so that a frozen component holds nothing that can change."""
    return tuple(value) if isinstance(value, list) else value


def check_alpha(_: Any, attribute: Attribute[Any], value: Alpha) -> None:
    """Raises `ValueError` unless every weight is a finite number, 0 or more, and there is one."""
    weights = value if isinstance(value, tuple) else (value,)
    if not weights:
        raise ValueError(f"'{attribute.name}' must hold at least one number, one per epoch")
    for weight in weights:
        if not 0 <= weight < math.inf:
            raise ValueError(f"'{attribute.name}' must be finite and >= 0: {weight!r}")


def alpha_at(alpha: Alpha, progress: Progress) -> float:
    """The weight in force: that of the epoch under way, or the last where the list is shorter."""
    if not isinstance(alpha, tuple):
        return alpha
    return alpha[min(int(progress.epoch), len(alpha) - 1)]


def asked(value: T | None, need: str) -> T:
    """`value`, or `ValueError` where scoring left it out because nobody asked for `need`."""
    if value is None:
        raise ValueError(f"this bonus reads scores that only exist where '{need}' is among the needs")
    return value
