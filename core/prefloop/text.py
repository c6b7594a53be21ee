"""Text for people: model output is data wherever it is shown, and a rate is written in one way."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefloop.types import Rate

NOTHING = "-"
"""Stands for a number that there is not."""


_JOINER = "\u200c\u200d"
"""Zero-width non-joiner and joiner: Persian words and emoji families fall apart without them."""
_STRAY_JOINER = re.compile(rf"(?<![^\s{_JOINER}])[{_JOINER}]|[{_JOINER}](?![^\s{_JOINER}])")
"""One that does not stand between two visible characters, where it would join nothing."""


def printable(text: str) -> str:
    """`text` without the characters that steer a terminal; line breaks and tabs stay.

    Joiners stay between visible characters.
    """
    return _STRAY_JOINER.sub("", "".join(c for c in text if c in _JOINER or _is_printable(c)))


def printable_json(value: Any) -> str:
    """`value` as JSON, in which the characters that steer a terminal are escapes: nothing is lost."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    text = "".join(c if c in _JOINER or _is_printable(c) else _escaped(c) for c in text)
    return _STRAY_JOINER.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]


def _is_printable(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")


def one_line(text: str, width: int = 100) -> str:
    """`text` printable, on one line, cut with an ellipsis after `width` characters."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def interval(rate: Rate) -> str:
    """A rate with its 95 % interval: ``64% (55% to 73%)``."""
    return f"{rate.rate:.0%} ({rate.low:.0%} to {rate.high:.0%})"


def interval_of_pairs(rate: Rate | None) -> str:
    """The same for a narrow column, with the number of pairs: ``64.5% (55-73) of 107``."""
    if rate is None or math.isnan(rate.rate):
        return NOTHING
    return f"{rate.rate:.1%} ({100 * rate.low:.0f}-{100 * rate.high:.0f}) of {rate.pairs}"


def formatted(value: float | None, form: str) -> str:
    """A number in a format; None and NaN are `NOTHING`."""
    return NOTHING if value is None or math.isnan(value) else f"{value:{form}}"
